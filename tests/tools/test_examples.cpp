// The pipelines of examples/shell, on the model that ships.
#include "tools/chat.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

Result example(const std::string& name, std::vector<std::string> args, const std::string& input = {},
               std::map<std::string, std::string> env = {}) {
  env["TOOL"] = tool("gemma-generate");
  env["CHAT"] = tool("gemma-chat");
  args.insert(args.begin(), std::string(ATELIER_MODELS) + "/../shell/" + name);
  Result result = run({.program = "/bin/bash", .args = std::move(args), .input = input, .env = std::move(env)});
  CAPTURE(result.err);
  CHECK(result.signal == 0);
  return result;
}

}  // namespace

TEST_CASE("captions.sh") {
  const Result r = example("captions.sh", {}, "a red circle\na big blue square on white\n");
  CHECK(r.code == 0);
  CHECK(r.out_lines().size() == 2);
}

TEST_CASE("perplexity-gate.sh") {
  const TempFolder folder;
  const std::string text = folder.write("t.txt", "a large red circle");
  CHECK(example("perplexity-gate.sh", {text, "1e9"}).code == 0);
  CHECK(example("perplexity-gate.sh", {text, "1"}).code == 4);
}

TEST_CASE("nightly.sh") {
  const TempFolder folder;
  const std::string jobs = folder.write("jobs.jsonl", "{\"id\":1,\"prompt\":\"Hello!\",\"max_tokens\":4}\n");
  CHECK(example("nightly.sh", {jobs, folder.file("out.jsonl")}).code == 0);
  CHECK(example("nightly.sh", {jobs, folder.file("out.jsonl")}).code == 0);
  CHECK(lines_of(folder.read("out.jsonl")).size() == 1);
}

TEST_CASE("call-functions.sh") {
  const Result r = example("call-functions.sh", {"Draw a red circle on white."});
  CHECK(r.code == 0);
  REQUIRE(r.out_lines().size() == 2);
  CHECK(base::parse_json(r.out_lines()[0], "call")["name"] == "draw_scene");
  CHECK(r.out_lines()[1] == "Done, I have drawn the red circle.");
}

TEST_CASE("translate.sh") {
  const Result r = example("translate.sh", {"en:de"}, "a red circle\na large blue square\n");
  CHECK(r.code == 0);
  CHECK(r.out_lines().size() == 2);
  const Result wrong = example("translate.sh", {"en:xx"}, "a red circle\n");
  CHECK(wrong.code == 64);
}

TEST_CASE("medical-answers.sh") {
  const Result r = example("medical-answers.sh", {"-n", "8"}, "What is a red circle?\n");
  CHECK(r.code == 0);
  REQUIRE(r.out_lines().size() == 1);
  CHECK(base::parse_json(r.out_lines()[0], "answer")["question"] == "What is a red circle?");
}

TEST_CASE("safe-answers.sh") {
  const Result r = example("safe-answers.sh", {"all:none"}, "Hello!\n");
  CHECK(r.code == 0);
  CHECK(r.out_lines().size() == 1);
}

TEST_CASE("cached-summary.sh") {
  const TempFolder folder;
  std::string instructions;
  for (int i = 0; i < 20; ++i) instructions += "Answer in one short sentence about coloured shapes. ";
  const std::string file = folder.write("instructions.txt", instructions);
  const std::map<std::string, std::string> env = {{"CACHE", folder.file("cache")}};
  const Result first = example("cached-summary.sh", {file, "Hello!"}, {}, env);
  CHECK(first.code == 0);
  CHECK(!first.out.empty());
  CHECK(example("cached-summary.sh", {file, "Hello!"}, {}, env).out == first.out);
  const Result json = example("cached-summary.sh", {file, "Hello!", "--json"}, {}, env);
  CHECK(base::parse_json(json.out, "record")["usage"]["cached_tokens"] >= 128);
}

TEST_CASE("finetune/nightly.sh, an epoch of it: a model that is better, and a second call that leaves it alone") {
  const TempFolder folder;
  const std::string script = std::string(ATELIER_MODELS) + "/../finetune/nightly.sh";
  const auto nightly = [&] {
    return run({.program = "/bin/bash",
                .args = {script, folder.file("run"), "--epochs", "1", "--eval-every", "0", "--early-stop", "0"},
                .env = {{"BIN", std::filesystem::path(tool("gemma-finetune")).parent_path()}},
                .timeout = std::chrono::seconds(120)});
  };
  const Result first = nightly();
  CAPTURE(first.err);
  REQUIRE(first.code == 0);
  CHECK(first.out.find("held-out pictures found: ") != std::string::npos);
  const auto time = std::filesystem::last_write_time(folder.file("run/model/model.safetensors"));
  CHECK(nightly().code == 0);
  CHECK(std::filesystem::last_write_time(folder.file("run/model/model.safetensors")) == time);
}
