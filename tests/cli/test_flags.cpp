// What every executable promises about its flags, shown with tests/cli/tool.
#include <doctest/doctest.h>

#include "base/json.h"
#include "support/process.h"

using namespace atelier::test;
using atelier::base::Json;

namespace {

Result call(std::vector<std::string> args, Process rest = {}) {
  rest.program = tool("cli-test-tool");
  rest.args = std::move(args);
  return run(rest);
}

Json record(std::vector<std::string> args) {
  args.push_back("--json");
  const Result r = call(args);
  INFO(r.err);
  REQUIRE(r.code == 0);
  return Json::parse(r.out);
}

void check_usage_error(std::vector<std::string> args, const std::string& message, const std::string& hint = "") {
  const Result r = call(args);
  INFO(r.err);
  CHECK(r.code == 64);
  CHECK(r.out.empty());
  REQUIRE(r.err_lines().size() == (hint.empty() ? 1u : 2u));
  CHECK(r.err_lines()[0] == "test-tool: error: " + message);
  if (!hint.empty()) CHECK(r.err_lines()[1] == "hint: " + hint);
}

}  // namespace

TEST_CASE("values are taken as they are meant") {
  CHECK(record({"-p", "x", "-n", "5"})["max_tokens"] == 5);
  CHECK(record({"-p", "x", "-n5"})["max_tokens"] == 5);
  CHECK(record({"-p", "x", "--max-tokens=5"})["max_tokens"] == 5);
  CHECK(record({"-n", "010"})["max_tokens"] == 10);  // CLI11: octal
  CHECK(record({"--count", "010", "-n", "+007"})["max_tokens"] == 7);
  CHECK(record({"-n", "1", "-n", "2"})["max_tokens"] == 2);
  CHECK(record({"--temperature", "1e-2"})["temperature"] == 0.01);
  CHECK(record({"--threads", "3"})["threads"] == 3);
  CHECK(record({"--device", "cuda:1"})["device"] == "cuda:1");
  CHECK(record({"--chat"})["chat"] == true);
  CHECK(record({"--chat=false"})["chat"] == false);
  CHECK(record({"--no-stream"})["no_stream"] == true);
}

TEST_CASE("a value may begin with a dash, be empty, or look like a flag") {
  CHECK(record({"--prompt=-5"})["prompt"] == "-5");
  CHECK(record({"-p", "-5 degrees"})["prompt"] == "-5 degrees");
  CHECK(record({"-p", "--help me"})["prompt"] == "--help me");
  CHECK(record({"-p-5"})["prompt"] == "-5");
  CHECK(record({"--prompt="})["prompt"] == "");  // CLI11 would take the next argument
  CHECK(record({"--prompt", ""})["prompt"] == "");
  CHECK(record({"--prompt=a=b"})["prompt"] == "a=b");
  CHECK(record({"-p", "[a,b]"})["prompt"] == "[a,b]");
}

TEST_CASE("an empty value of a flag that names something is not taken for a flag left out") {
  for (const std::string flag : {"--model", "--jobs", "--config", "--manifest"}) {
    check_usage_error({flag, ""}, flag + " is empty", "leave the flag out, or is a variable not set?");
    check_usage_error({flag + "="}, flag + " is empty", "leave the flag out, or is a variable not set?");
  }
}

TEST_CASE("repeated texts are kept apart and whole") {
  CHECK(record({"--stop", "[END]", "--stop", "{}", "--stop", "", "--stop", "-x", "--stop=a,b"})["stops"] ==
        Json({"[END]", "{}", "", "-x", "a,b"}));
  check_usage_error({"--stop", "a", "b"}, "unexpected argument \"b\"");
}

TEST_CASE("unknown flags are named, with the nearest") {
  check_usage_error({"--max-token", "3"}, "unknown flag \"--max-token\"", "did you mean \"--max-tokens\"?");
  check_usage_error({"--temp=3"}, "unknown flag \"--temp\"", "did you mean \"--temperature\"?");
  check_usage_error({"--qqqqq"}, "unknown flag \"--qqqqq\"");
  check_usage_error({"-prompt", "x"}, "unknown flag \"-prompt\"", "did you mean \"--prompt\"?");
  check_usage_error({"-x"}, "unknown flag \"-x\"");
  check_usage_error({"-5"}, "unknown flag \"-5\"");
  check_usage_error({"prompt"}, "unexpected argument \"prompt\"", "did you mean \"--prompt\"?");
  check_usage_error({"--", "-p"}, "unexpected argument \"-p\"");
  check_usage_error({"--=x"}, "unknown flag \"--\"");
  check_usage_error({""}, "unexpected argument \"\"");
}

TEST_CASE("wrong values are named, with the nearest") {
  check_usage_error({"--device", "cudda"}, "--device: \"cudda\" is not one of auto, cpu, cuda, cuda:N",
                    "did you mean \"cuda\"?");
  check_usage_error({"--device", "cuda:"}, "--device: \"cuda:\" is not one of auto, cpu, cuda, cuda:N",
                    "did you mean \"cuda\"?");
  check_usage_error({"--dtype", "fp31"}, "--dtype: \"fp31\" is not one of auto, fp32, bf16, fp16",
                    "did you mean \"fp32\"?");
  check_usage_error({"--threads", "0"}, "--threads: 0 is not between 1 and 1024");
  check_usage_error({"--threads", "1025"}, "--threads: 1025 is not between 1 and 1024");
  check_usage_error({"-n", "abc"}, "--max-tokens: \"abc\" is not a whole number");
  check_usage_error({"-n", ""}, "--max-tokens: \"\" is not a whole number");  // CLI11 reads 0
  check_usage_error({"-n", "0x10"}, "--max-tokens: \"0x10\" is not a whole number");
  check_usage_error({"-n", "5.0"}, "--max-tokens: \"5.0\" is not a whole number");
  check_usage_error({"-n", "99999999999999999999"}, "--max-tokens: 99999999999999999999 is too large");
  check_usage_error({"--delay", "99999999999"}, "--delay: \"99999999999\" is not a value it takes");
  check_usage_error({"--temperature", "nan"}, "--temperature: \"nan\" is not a number");
  check_usage_error({"--temperature", "inf"}, "--temperature: \"inf\" is not a number");
  check_usage_error({"--temperature", "-1"}, "--temperature: -1 is not between 0 and 100");
  check_usage_error({"--seed", "-1"}, "--seed: -1 is negative");
  check_usage_error({"--seed", "18446744073709551616"}, "--seed: 18446744073709551616 is too large");
  check_usage_error({"--max-ram", "4X"}, "--max-ram: \"4X\" is not a size such as 4G, 512M or 1.5GiB");
  check_usage_error({"--chat=maybe"}, "--chat: \"maybe\" is neither true nor false", "write --chat alone");
  check_usage_error({"--chat", "--raw"}, "--raw and --chat cannot be used together");
  check_usage_error({"--prompt"}, "--prompt needs a value");
  check_usage_error({"--device"}, "--device needs a value", "one of auto, cpu, cuda");
}

TEST_CASE("--version and --help print before anything else is looked at") {
  CHECK(call({"--version"}).out == "test-tool " ATELIER_VERSION "\n");
  const Result r = call({"--help", "--model", "/nowhere", "--config", "/nowhere"});
  CHECK(r.code == 0);
  CHECK(r.err.empty());
  for (const char* part : {"\nText:\n", "\nModel and device:\n", "-p, --prompt TEXT", "--dtype auto|fp32|bf16|fp16",
                           "(default 256)", "\nExample:\n  test-tool -p", "\nExit codes:\n", "   71  out of memory"}) {
    INFO(part);
    CHECK(r.out.find(part) != std::string::npos);
  }
  for (const std::string& line : r.out_lines()) CHECK(line.size() <= 100);
  CHECK(call({"-h"}).out == r.out);
}

TEST_CASE("stdout holds the payload alone; levels of talk on stderr") {
  CHECK(call({"-p", "x"}).out == "x\n");
  CHECK(call({"-p", "x"}).err == "test-tool: info line\n");
  CHECK(call({"-p", "x", "--quiet"}).err.empty());
  CHECK(call({"-p", "x", "--verbose"}).err == "test-tool: info line\ntest-tool: verbose line\n");
  check_usage_error({"--verbose", "--quiet"}, "--quiet and --verbose cannot be used together");
}
