#pragma once

#include "tools/generate.h"

namespace atelier::test {

/// gemma-chat on the model that ships, quiet about which one.
inline Process chat_process(std::vector<std::string> args, const std::string& input = {}) {
  args.insert(args.end(), {"--model", shipped, "--threads", "1"});
  return {.program = tool("gemma-chat"), .args = std::move(args), .input = input};
}

inline Result chat(std::vector<std::string> args, const std::string& input = {}) {
  return run(chat_process(std::move(args), input));
}

/// One error line, at most one hint, nothing on stdout.
inline void check_chat_failure(const Result& result, int code, const std::string& part) {
  CAPTURE(result.err);
  CHECK(result.code == code);
  CHECK(result.out.empty());
  const auto lines = result.err_lines();
  REQUIRE(!lines.empty());
  CHECK(lines.size() <= 2);
  CHECK(lines[0].starts_with("gemma-chat: error: "));
  if (lines.size() == 2) CHECK(lines[1].starts_with("hint: "));
  CHECK(result.err.find(part) != std::string::npos);
}

}  // namespace atelier::test
