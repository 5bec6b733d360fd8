// --config: TOML, and what becomes of it.
#include <doctest/doctest.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/toml.h"
#include "support/process.h"

using namespace atelier::test;
using atelier::base::Error;
using atelier::base::ExitCode;
using atelier::base::Json;
using atelier::cli::parse_toml;

namespace {

void check_refused(const std::string& text, const std::string& message) {
  INFO(text);
  try {
    parse_toml(text, "f.toml");
    FAIL("was accepted");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::data);
    CHECK(std::string(error.what()).find(message) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("TOML values") {
  CHECK(parse_toml("", "f").dump() == "{}");
  CHECK(parse_toml("a = 1\r\n b-c_D9=\"x # y, z\" # comment\n\n'q r' = true", "f").dump() ==
        R"({"a":1,"b-c_D9":"x # y, z","q r":true})");
  CHECK(parse_toml("a = 'C:\\n'\nb = \"t\\tq\\\"\\u00e9\\U0001F600\"", "f").dump() ==
        R"({"a":"C:\\n","b":"t\tq\"é😀"})");
  CHECK(parse_toml("a = \"\"\"\none\ntwo \\\n   three\"\"\"\nb = '''\nx\\\n'y''''", "f").dump() ==
        R"({"a":"one\ntwo three","b":"x\\\n'y'"})");
  CHECK(parse_toml("a = [1, 2,\n # c\n 'x' ,]\nb=[]\nc=[[1],[2]]", "f").dump() ==
        R"({"a":[1,2,"x"],"b":[],"c":[[1],[2]]})");
  CHECK(parse_toml("a=+1_000\nb=0xFF\nc=0o17\nd=0b101\ne=-3\nf=18446744073709551615", "f").dump() ==
        R"({"a":1000,"b":255,"c":15,"d":5,"e":-3,"f":18446744073709551615})");
  CHECK(parse_toml("a=1.5\nb=-2e-3\nc=1_0.5", "f").dump() == R"({"a":1.5,"b":-0.002,"c":10.5})");
  CHECK(parse_toml("\xEF\xBB\xBF"
                   "a=1",
                   "f")
            .dump() == R"({"a":1})");
}

TEST_CASE("TOML that is refused, with its line") {
  check_refused("a = 1\nb = x", "f.toml: line 2: \"x\" is not a value (texts stand in quotes)");
  check_refused("a = 1\na = 2", "line 2: \"a\" is there twice");
  check_refused("a = 1 b = 2", "line 1: one `flag = value` per line");
  check_refused("a", "expected `flag = value`");
  check_refused("= 1", "expected `flag = value`");
  check_refused("a =", "a value is missing");
  check_refused("a = ", "a value is missing");
  check_refused("[table]\na=1", "tables are not used here");
  check_refused("a.b = 1", "dotted keys are not used here");
  check_refused("a = {b = 1}", "inline tables are not used here");
  check_refused("a = \"x\nb = 1", "line 1: a text must end on its line");
  check_refused("a = \"x", "the file ends in the middle of a value");
  check_refused("a = '''x\n\n", "the file ends in the middle of a value");
  check_refused("a = [1, 2", "the file ends");
  check_refused("a = [1 2]", "expected `,` or `]`");
  check_refused("a = \"\\q\"", "unknown escape \\q");
  check_refused("a = \"\\ud800\"", "names no character");
  check_refused("a = \"\\u12g4\"", "expected hexadecimal digits");
  check_refused(std::string("a = \"x\0y\"", 9), "a control character");
  check_refused("a = 010", "is not a value");
  check_refused("a = 1__0", "is not a value");
  check_refused("a = _1", "is not a value");
  check_refused("a = nan", "is not a value");
  check_refused("a = 1979-05-27", "is not a value");
  check_refused("a = 99999999999999999999999", "");
  check_refused("a = " + std::string(100000, '['), "nested too deep");
}

TEST_CASE("TOML: no random text crashes the reader") {
  const std::string alphabet = "ab=\"'\\\n#[],{}.-_01exu \t";
  std::uint64_t state = 1;
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (int k = 0; k < 24; ++k) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      text += alphabet[(state >> 33) % alphabet.size()];
    }
    try {
      parse_toml(i % 2 ? text : "a=" + text, "f");
    } catch (const Error&) {
    }
  }
}

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
