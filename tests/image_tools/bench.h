#pragma once

#include <string>
#include <vector>

#include "image_tools/models.h"

namespace atelier::test {

/// sd-bench with these arguments; commands that compute get one thread.
inline Result bench(std::vector<std::string> args) {
  const bool computes = !args.empty() && args[0] != "vote" && args[0] != "elo" && !args[0].starts_with("-");
  if (computes) args.insert(args.end(), {"--threads", "1"});
  Process process{.program = tool("sd-bench"), .args = std::move(args)};
  process.timeout = std::chrono::minutes(5);
  return run(process);
}

/// `sd-bench compare` of small pictures with few steps, from three prompts, into a folder.
class ComparisonFolder {
 public:
  explicit ComparisonFolder(const std::string& prompts = "a cat in the sea\nan old man\na red house\n") {
    folder_.write("prompts.txt", prompts);
  }

  Result compare(const std::vector<std::string>& more, const std::string& output = "out") const {
    std::vector<std::string> args{
        "compare", "--prompts", file("prompts.txt"), "--output", file(output), "-W", "32", "-H", "24", "--quiet"};
    args.insert(args.end(), more.begin(), more.end());
    return bench(args);
  }

  std::string file(const std::string& name) const { return folder_.file(name); }
  std::string read(const std::string& name) const { return folder_.read(name); }
  std::string write(const std::string& name, const std::string& bytes) const { return folder_.write(name, bytes); }
  std::vector<base::Json> rows(const std::string& output = "out") const {
    return json_lines(read(output + "/results.jsonl"));
  }

 private:
  TempFolder folder_;
};

inline std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

}  // namespace atelier::test
