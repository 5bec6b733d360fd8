// Exit codes, broken pipes, full disks, signals and manifests of a whole process.
#include <doctest/doctest.h>
#include <csignal>

#include "base/json.h"
#include "base/sha256.h"
#include "support/process.h"

using namespace atelier::test;
using atelier::base::Json;

namespace {

Result call(std::vector<std::string> args, Process rest = {}) {
  rest.program = tool("cli-test-tool");
  rest.args = std::move(args);
  rest.args.push_back("--quiet");
  return run(rest);
}

// Sends the signal once the tool has said that it is at work, so that no load of the machine changes the outcome.
Result stop_at_work(std::vector<std::string> args, int signal) {
  return run(
      {.program = tool("cli-test-tool"),
       .args = std::move(args),
       .signal = signal,
       .signal_when = [](const auto&, const std::string& err) { return err.find("info line") != std::string::npos; }});
}

}  // namespace

TEST_CASE("every failure is one line, perhaps a hint, and the contract's code") {
  const auto check = [](const std::string& fault, int code, const std::string& err) {
    const Result r = call({"--fault", fault});
    CHECK(r.code == code);
    CHECK(r.out.empty());
    CHECK(r.err == err);
  };
  check("data", 65, "test-tool: error: model.safetensors: tensor \"x\"\\x1B[31m ends early\nhint: download it again\n");
  check("bad_alloc", 71, "test-tool: error: out of memory\n");
  check(
      "torch", 71,
      "test-tool: error: out of memory (8000000000 bytes more were asked for)\nhint: --plan shows what a run needs\n");
  check("bug", 70, "test-tool: error: internal error: index out of range\n");
  check("int", 70, "test-tool: error: internal error: an exception of unknown type\n");
  check("stop", 143, "test-tool: error: stopped by SIGTERM\n");
  check("other", 69, "test-tool: error: no such fault\n");
}

TEST_CASE("a full disk, a closed stdout and a reader that has gone are write failures") {
  for (const char* prompt : {"text", "stdio:text"}) {
    const Result full = call({"-p", prompt}, {.program = "", .out = Wire::full});
    CHECK(full.code == 74);
    CHECK(full.err_lines().size() == 1);
    const Result closed = call({"-p", prompt}, {.program = "", .out = Wire::closed});
    CHECK(closed.code == 74);
  }
  CHECK(call({"--version"}, {.program = "", .out = Wire::full}).code == 74);
  CHECK(call({"--help"}, {.program = "", .out = Wire::closed}).code == 74);

  const Result head = call({"-p", "repeat:x", "-n", "100000"}, {.program = "", .close_out_after = 1});
  CHECK(head.signal == SIGPIPE);  // ends silently, as every filter does
  CHECK(head.err.empty());
  const Result ignored =
      call({"-p", "repeat:x", "-n", "100000"}, {.program = "", .ignore_sigpipe = true, .close_out_after = 1});
  CHECK(ignored.code == 74);
  CHECK(ignored.err == "test-tool: error: stdout: cannot write: Broken pipe\n");
}

TEST_CASE("closed stdin and stderr do no harm") {
  CHECK(call({"-p", "x"}, {.program = "", .in = Wire::closed}).out == "x\n");
  CHECK(call({"-p", "x"}, {.program = "", .err = Wire::closed}).out == "x\n");
  CHECK(call({"--fault", "data"}, {.program = "", .err = Wire::closed}).code == 65);
  CHECK(call({"--jobs", "-"}, {.program = "", .in = Wire::closed}).code == 0);
}

TEST_CASE("SIGINT and SIGTERM end it with 130 and 143") {
  for (const int signal : {SIGINT, SIGTERM}) {
    const Result r = stop_at_work({"--delay", "20000"}, signal);
    CHECK(r.code == 128 + signal);
    CHECK(r.seconds < 5);
  }
}

TEST_CASE("an input pipe that never says anything does not hold a signal up") {
  Session session({.program = tool("cli-test-tool"), .args = {"--jobs", "-"}});
  session.send("{\"prompt\":\"a\"}\n");
  REQUIRE(session.expect("\"a\""));
  session.kill(SIGTERM);
  CHECK(session.wait().code == 143);
}

TEST_CASE("--plan and --max-ram") {
  const Result plan = call({"--plan", "--max-ram", "4G"});
  CHECK(plan.code == 71);
  CHECK(plan.err.empty());
  CHECK(
      plan.out ==
      R"({"model":{"family":"gemma2","files":["m.safetensors"],"tensors":3,"parameters":12},"missing":[],"unused":["u"],)"
      R"("bytes":{"weights":4294967296,"cache":1073741824,"activations":943718400,"total":6312427520},"fits":false})"
      "\n");
  CHECK(call({"--plan"}).code == 0);
  CHECK(call({"--plan", "--max-ram", "6G"}).code == 0);
  const Result refused = call({"--max-ram", "4G"});
  CHECK(refused.code == 71);
  CHECK(refused.err_lines()[0] == "test-tool: error: the run needs about 5.9 GiB, --max-ram is 4.0 GiB");
  CHECK(call({"--max-ram", "6G"}).code == 0);
}

TEST_CASE("the manifest has the contract's keys and says how the run ended") {
  TempFolder folder;
  const std::string model = folder.write("m.safetensors", "abc");
  const std::string path = folder.file("manifest.json");
  const Result r = call({"-p", "x", "--stop", "a", "--stop", "b", "--temperature", "0.5", "--model", model,
                         "--manifest", path, "--chat"});
  REQUIRE(r.code == 0);
  const std::string text = folder.read("manifest.json");
  CHECK(text.starts_with("{\n  \"tool\": \"test-tool\",\n"));
  const Json m = Json::parse(text);
  std::vector<std::string> keys;
  for (const auto& [key, value] : m.items()) keys.push_back(key);
  CHECK(keys == std::vector<std::string>{"tool", "version", "command", "options", "model", "adapters", "seeds",
                                         "outputs", "timings", "peak_rss_bytes", "device", "exit_code"});
  CHECK(m["command"][1] == "-p");
  CHECK(m["options"]["prompt"] == "x");
  CHECK(m["options"]["max-tokens"] == 256);
  CHECK(m["options"]["temperature"] == 0.5);
  CHECK(m["options"]["stop"] == Json({"a", "b"}));
  CHECK(m["options"]["chat"] == true);
  CHECK(m["options"]["raw"] == false);
  CHECK(m["options"]["threads"] == nullptr);
  CHECK(m["options"]["seed"] == 7);  // drawn by the body
  CHECK(m["options"]["device"] == "auto");
  CHECK(
      m["model"] ==
      Json({{"path", model},
            {"files", Json::array({{{"path", model}, {"bytes", 3}, {"sha256", atelier::base::sha256_hex("abc")}}})}}));
  CHECK(m["seeds"] == Json({7}));
  CHECK(m["peak_rss_bytes"].get<std::uint64_t>() > 100000);
  CHECK(m["exit_code"] == 0);

  CHECK(call({"--fault", "data", "--manifest", path}).code == 65);
  CHECK(Json::parse(folder.read("manifest.json"))["exit_code"] == 65);
  CHECK(call({"--manifest", folder.file("missing/m.json")}).code == 73);
  CHECK(call({"--fault", "data", "--manifest", folder.file("missing/m.json")}).code == 65);
  CHECK(folder.entries() == std::vector<std::string>{"m.safetensors", "manifest.json"});

  const Result stopped = stop_at_work({"--delay", "20000", "--model", model, "--manifest", path}, SIGTERM);
  CHECK(stopped.code == 143);
  const Json after = Json::parse(folder.read("manifest.json"));
  CHECK(after["exit_code"] == 143);
  CHECK(after["model"]["files"][0]["sha256"] == nullptr);
}

TEST_CASE("on a terminal model output cannot drive it; in a pipe bytes stay as they are") {
  const std::string hostile =
      "a\x1b]0;title\x07"
      "b\x1b[31mc\xc2\x9b"
      "5md\x7f\xe2\x80\xae"
      "e";
  CHECK(call({"-p", hostile}).out == hostile + "\n");
  CHECK(call({"-p", hostile}, {.program = "", .pty = true}).out == "abcde\r\n");
  const Result json = call({"-p", hostile, "--json"}, {.program = "", .pty = true});
  CHECK(json.out.find('\x1b') == std::string::npos);
  CHECK(json.out.find("\xc2\x9b") == std::string::npos);
  CHECK(Json::parse(json.out)["prompt"] == hostile);
}

TEST_CASE("the shipped model is found through the environment and beside the executable") {
  TempFolder folder;
  std::filesystem::create_directories(folder.path() / "tiny-gemma");
  folder.write("tiny-gemma/config.json", "{}");
  const Result r = call({"-p", "default-model"}, {.program = "", .env = {{"ATELIER_MODELS", folder.path().string()}}});
  CHECK(r.out_lines()[0] == folder.file("tiny-gemma"));

  const auto install = [&](const std::string& models) {
    std::filesystem::create_directories(folder.path() / "bin");
    std::filesystem::create_directories(folder.path() / models / "tiny-gemma");
    folder.write(models + "/tiny-gemma/config.json", "{}");
    std::filesystem::copy_file(tool("cli-test-tool"), folder.path() / "bin/t",
                               std::filesystem::copy_options::overwrite_existing);
    const Result found =
        run({.program = folder.file("bin/t"), .args = {"-p", "default-model"}, .env = {{"ATELIER_MODELS", ""}}});
    INFO(found.err);
    CHECK(found.err_lines().at(0).starts_with("test-tool: no --model given, using the shipped tiny-gemma"));
    std::filesystem::remove_all(folder.path() / models);
    return found.out_lines().at(0);
  };
  const std::string root = std::filesystem::canonical(folder.path()).string();
  CHECK(install("share/atelier/models") == root + "/share/atelier/models/tiny-gemma");
  CHECK(install("examples/models") == root + "/examples/models/tiny-gemma");
  const Result none =
      run({.program = folder.file("bin/t"), .args = {"-p", "default-model"}, .env = {{"ATELIER_MODELS", ""}}});
  CHECK(none.code == 66);
  CHECK(none.err_lines().size() == 2);
}
