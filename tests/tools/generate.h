#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/json.h"
#include "support/process.h"
#include "support/scratch.h"

namespace atelier::test {

inline const std::string shipped = std::string(ATELIER_MODELS) + "/tiny-gemma";

/// gemma-generate with these arguments.
inline Result generate(std::vector<std::string> args, const std::string& input = {}) {
  return run({.program = tool("gemma-generate"), .args = std::move(args), .input = input});
}

/// The records on stdout; every line must be one.
inline std::vector<base::Json> records(const Result& result) {
  std::vector<base::Json> found;
  for (const std::string& line : result.out_lines()) found.push_back(base::parse_json(line, "record"));
  return found;
}

/// The only record of a run.
inline base::Json record(const Result& result) {
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  const auto all = records(result);
  REQUIRE(all.size() == 1);
  return all[0];
}

/// One error line of the tool, at most one hint, nothing on stdout.
inline void check_failure(const Result& result, int code, const std::string& part) {
  CAPTURE(result.err);
  CHECK(result.code == code);
  CHECK(result.signal == 0);
  CHECK(result.out.empty());
  int errors = 0, others = 0;
  for (const std::string& line : result.err_lines()) {
    if (line.starts_with("gemma-generate: error: "))
      ++errors;
    else if (!line.starts_with("hint: ") && line.find("using the shipped tiny-gemma") == std::string::npos)
      ++others;
  }
  CHECK(errors == 1);
  CHECK(others == 0);
  CHECK(result.err.find(part) != std::string::npos);
}

/// What a reply consists of, without the timings.
inline base::Json reply(const base::Json& record) {
  base::Json part;
  for (const char* key : {"text", "token_ids", "finish_reason", "seed"}) part[key] = record[key];
  return part;
}

}  // namespace atelier::test
