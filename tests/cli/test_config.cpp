// --config and --preset: files of settings, and what becomes of them.
#include <doctest/doctest.h>

#include "base/json.h"
#include "support/process.h"

using namespace atelier::test;
using atelier::base::Json;

TEST_CASE("--config: keys are flags, and the command line wins") {
  TempFolder folder;
  const std::string path = folder.write("c.toml",
                                        "prompt = \"a, b # [c]\"\nmax-tokens = 5\ntemperature = 0.5\nchat = true\n"
                                        "stop = [\"[x]\", \"y\"]\nno_stream = false\nthreads = 2\n");
  const auto call = [](std::vector<std::string> args) {
    args.push_back("--json");
    args.push_back("--quiet");
    return run({.program = tool("cli-test-tool"), .args = std::move(args)});
  };
  Json r = Json::parse(call({"--config", path}).out);
  CHECK(r["prompt"] == "a, b # [c]");
  CHECK(r["max_tokens"] == 5);
  CHECK(r["temperature"] == 0.5);
  CHECK(r["chat"] == true);
  CHECK(r["no_stream"] == false);
  CHECK(r["stops"] == Json({"[x]", "y"}));
  CHECK(r["threads"] == 2);
  r = Json::parse(call({"--max-tokens", "9", "--config", path, "--stop", "z", "--chat=false"}).out);
  CHECK(r["max_tokens"] == 9);
  CHECK(r["stops"] == Json({"z"}));
  CHECK(r["chat"] == false);

  const auto refused = [&](const std::string& text, int code, const std::string& err) {
    const std::string bad = folder.write("bad.toml", text);
    const Result result = call({"--config", bad});
    CHECK(result.code == code);
    CHECK(result.err == "test-tool: error: " + err + "\n");
  };
  const std::string bad = folder.file("bad.toml");
  refused("max-token = 5", 64, bad + ": unknown key \"max-token\"\nhint: did you mean \"max-tokens\"?");
  refused("config = \"x\"", 64, bad + ": \"config\" belongs on the command line");
  refused("help = true", 64, bad + ": \"help\" belongs on the command line");
  refused("max-tokens = \"many\"", 64, "--max-tokens: \"many\" is not a whole number");
  refused("max-tokens = [1]", 64, bad + ": \"max-tokens\" takes one value, not an array");
  refused("chat = 1", 64, bad + ": \"chat\" must be true or false");
  refused("prompt = true", 64, bad + ": \"prompt\" must be a text or a number, not true or false");
  refused("device = \"gpu\"", 64,
          "--device: \"gpu\" is not one of auto, cpu, cuda, cuda:N\nhint: did you mean \"cpu\"?");
  refused("a = ", 65, bad + ": line 1: a value is missing");
  const Result missing = call({"--config", folder.file("none.toml")});
  CHECK(missing.code == 66);
  CHECK(missing.err.find("none.toml: cannot open: No such file or directory") != std::string::npos);
  CHECK(call({"--config", folder.path().string()}).code == 66);
}

TEST_CASE("--preset: other defaults, which --config and the command line win over") {
  TempFolder folder;
  folder.write("small.toml", "# a comment\nmax-tokens = 7\ntemperature = 0.25\nchat = true\n");
  folder.write("odd.toml", "max-tokens = 7\nmax-tokns = 8\n");
  folder.write("list.toml", "stop = [\"a\", \"b\"]\n");
  folder.write("bad.toml", "max-tokens = \"many\"\n");
  TempFolder other;
  const std::string config = other.write("c.toml", "temperature = 0.5\n");
  const auto call = [&](std::vector<std::string> args) {
    args.insert(args.end(), {"--json", "--quiet"});
    return run({.program = tool("cli-test-tool"),
                .args = std::move(args),
                .env = {{"ATELIER_PRESETS", folder.path().string()}}});
  };
  Json r = Json::parse(call({"--preset", "small"}).out);
  CHECK(r["max_tokens"] == 7);
  CHECK(r["temperature"] == 0.25);
  CHECK(r["chat"] == true);
  r = Json::parse(call({"--max-tokens", "9", "--chat=false", "--preset", "small", "--config", config}).out);
  CHECK(r["max_tokens"] == 9);
  CHECK(r["temperature"] == 0.5);
  CHECK(r["chat"] == false);
  r = Json::parse(call({"--preset", "small", "--max-tokens", "9"}).out);
  CHECK(r["max_tokens"] == 9);

  const auto refused = [&](const std::string& name, const std::string& err) {
    const Result result = call({"--preset", name});
    CHECK(result.code == 64);
    CHECK(result.err == "test-tool: error: " + err + "\n");
  };
  refused("smal", "--preset smal: there is no such one\nhint: did you mean \"small\"?");
  refused("odd", folder.file("odd.toml") + ": unknown key \"max-tokns\"\nhint: did you mean \"max-tokens\"?");
  refused("list", folder.file("list.toml") + ": \"stop\" takes several values");
  refused("bad", "--max-tokens: \"many\" is not a whole number");
  const Result path = call({"--preset", config});
  CHECK(path.code == 64);
  CHECK(path.err.find("there is no such one\nhint: one of bad, cpu-small, ") != std::string::npos);
}
