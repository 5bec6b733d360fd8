// The scripts that --completions prints, run by the shells themselves where they are there.
#include <doctest/doctest.h>
#include <filesystem>

#include "support/process.h"

using namespace atelier::test;

namespace {

// What bash would offer at the end of `line` (words as readline splits them).
std::vector<std::string> offered(const TempFolder& folder, const std::vector<std::string>& words) {
  std::string script = "set -e\nsource ./completion.bash\nCOMP_WORDS=(";
  for (const std::string& word : words) script += "'" + word + "' ";
  script += ")\nCOMP_CWORD=" + std::to_string(words.size() - 1) +
            "\n_test_tool || true\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n";
  const Result r = run({.program = "/bin/bash", .args = {"--norc", "-c", script}, .folder = folder.path().string()});
  CHECK(r.code == 0);
  CHECK(r.err.empty());
  auto lines = r.out_lines();
  std::erase(lines, "");
  return lines;
}

}  // namespace

TEST_CASE("bash completes flags, the words of a flag, files, and nothing for texts") {
  TempFolder folder;
  const Result made = run({.program = tool("cli-test-tool"), .args = {"--completions", "bash"}});
  REQUIRE(made.code == 0);
  folder.write("completion.bash", made.out);
  folder.write("a file.toml", "");
  using Words = std::vector<std::string>;
  CHECK(offered(folder, {"test-tool", "--max-t"}) == Words{"--max-tokens"});
  CHECK(offered(folder, {"test-tool", "--dtype", ""}) == Words{"auto", "fp32", "bf16", "fp16"});
  CHECK(offered(folder, {"test-tool", "--dtype", "b"}) == Words{"bf16"});
  CHECK(offered(folder, {"test-tool", "--dtype", "="}) == Words{"auto", "fp32", "bf16", "fp16"});
  CHECK(offered(folder, {"test-tool", "--dtype", "=", "fp"}) == Words{"fp32", "fp16"});
  CHECK(offered(folder, {"test-tool", "--config", "a"}) == Words{"a file.toml"});
  CHECK(offered(folder, {"test-tool", "--model", "a"}) == Words{"a file.toml"});
  CHECK(offered(folder, {"test-tool", "-p", "x"}).empty());
  CHECK(offered(folder, {"test-tool", "--json", "--quie"}) == Words{"--quiet"});
  CHECK(offered(folder, {"test-tool", "--completions", ""}) == Words{"bash", "zsh"});
  CHECK(offered(folder, {"test-tool", ""}).size() > 30);
}

TEST_CASE("zsh's script is well-formed") {
  TempFolder folder;
  const Result made = run({.program = tool("cli-test-tool"), .args = {"--completions", "zsh"}});
  REQUIRE(made.code == 0);
  CHECK(made.out.starts_with("#compdef test-tool\n"));
  CHECK(made.out.find("'--dtype=[Number format of the weights]:DTYPE:(auto fp32 bf16 fp16)'") != std::string::npos);
  CHECK(made.out.find("'--config=[Read settings from a TOML file\\: flag names as keys]:FILE:_files'") !=
        std::string::npos);
  CHECK(made.out.find("'*--stop=[Stop text]:TEXT: '") != std::string::npos);
  CHECK(made.out.find("'--json[") != std::string::npos);
  const std::string path = folder.write("_test_tool", made.out);
  for (const char* shell : {"/bin/zsh", "/bin/bash"}) {  // its quoting is the same in both
    if (std::filesystem::exists(shell)) CHECK(run({.program = shell, .args = {"-n", path}}).code == 0);
  }
}

TEST_CASE("another shell is refused") {
  const Result r = run({.program = tool("cli-test-tool"), .args = {"--completions", "fish"}});
  CHECK(r.code == 64);
  CHECK(r.err_lines().at(0) == "test-tool: error: --completions: \"fish\" is not one of bash, zsh");
}
