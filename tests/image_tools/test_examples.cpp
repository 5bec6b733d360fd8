// The pipelines of examples/shell that make pictures, on small random models.
#include <filesystem>

#include "image/read.h"
#include "image_tools/models.h"

#include "support/doctest_last.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

/// A script with these arguments, then the model and a small picture.
Result example(const std::string& name, std::vector<std::string> args, std::vector<std::string> more = {}) {
  args.insert(args.begin(), std::string(ATELIER_MODELS) + "/../shell/" + name);
  args.insert(args.end(), {"--model", tiny_model("sd15"), "--steps", "2", "--threads", "1"});
  args.insert(args.end(), more.begin(), more.end());
  const std::map<std::string, std::string> env = {{"TOOL", tool("gemma-generate")},
                                                  {"TXT2IMG", tool("sd-txt2img")},
                                                  {"INPAINT", tool("sd-inpaint")},
                                                  {"ATELIER_MODELS", ATELIER_MODELS}};
  const Result result = run({.program = "/bin/bash", .args = args, .env = env, .timeout = std::chrono::minutes(2)});
  CHECK(result.signal == 0);
  return result;
}

const std::vector<std::string> kSmall = {"-W", "32", "-H", "24"};

}  // namespace

TEST_CASE("illustrate.sh: a caption becomes a picture, and is its prompt") {
  const TempFolder folder;
  const Result result = example("illustrate.sh", {"a red circle", folder.file("a.png")}, kSmall);
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(result.out == folder.file("a.png") + "\n");
  const auto text = image::read_metadata(folder.file("a.png"));
  const std::string* own = image::find_text(text, "atelier");
  REQUIRE(own != nullptr);
  const auto prompt = base::parse_json(*own, "atelier")["options"]["prompt"].get<std::string>();
  CHECK(!prompt.empty());
  CHECK(contains(result.err, prompt));
}

TEST_CASE("repaint-photos.sh: each photograph with its own mask, and none twice") {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() / "photos");
  for (const char* name : {"a.png", "b.png"})
    std::filesystem::copy(picture_data("init.png"), folder.path() / "photos" / name);
  std::filesystem::copy(picture_data("mask.png"), folder.path() / "photos" / "a.mask.png");
  folder.write("photos/b.svg",
               R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 3"><circle cx="2" cy="1" r="1"/></svg>)");
  const std::vector<std::string> args = {folder.file("photos"), folder.file("out"), "a cat"};
  const Result result = example("repaint-photos.sh", args);
  CAPTURE(result.err);
  CHECK(result.code == 0);
  const auto records = json_lines(result.out);
  REQUIRE(records.size() == 2);
  CHECK(records[0]["id"] == "a.png");
  CHECK(records[1]["path"] == folder.file("out/b.png"));
  for (const char* name : {"out/a.png", "out/b.png"})
    CHECK(distance_of_files(folder.file(name), picture_data("init.png")).mean > 0);
  const Result again = example("repaint-photos.sh", args);
  CHECK(again.code == 0);
  CHECK(again.out.empty());
}

TEST_CASE("nightly-pictures.sh: goes on where it was") {
  const TempFolder folder;
  const std::string prompts = folder.file("prompts.txt");
  folder.write("prompts.txt", "a cat\n\nthe sea\n");
  CHECK(example("nightly-pictures.sh", {prompts, folder.file("out")}, kSmall).code == 0);
  CHECK(std::filesystem::exists(folder.file("out/0001.png")));
  CHECK(std::filesystem::exists(folder.file("out/0003.png")));
  const std::string first = folder.read("out/0001.png"), third = folder.read("out/0003.png");
  // As if it had been stopped after the first.
  const std::string lines = folder.read("out/records.jsonl");
  folder.write("out/records.jsonl", lines.substr(0, lines.find('\n') + 1));
  std::filesystem::remove(folder.file("out/0003.png"));
  CHECK(example("nightly-pictures.sh", {prompts, folder.file("out")}, kSmall).code == 0);
  CHECK(folder.read("out/0001.png") == first);
  CHECK(folder.read("out/0003.png") == third);
  const auto records = json_lines(folder.read("out/records.jsonl"));
  REQUIRE(records.size() == 2);
  CHECK(records[1]["id"] == 3);
}

TEST_CASE("picture-gate.sh: other pictures are exit code 4") {
  const TempFolder folder;
  folder.write("jobs.jsonl", "{\"id\":\"a\",\"prompt\":\"a cat\"}\n{\"id\":\"b\",\"prompt\":\"the sea\"}\n");
  const std::string jobs = folder.file("jobs.jsonl"), hashes = folder.file("hashes");
  CHECK(example("picture-gate.sh", {jobs, hashes, "--update"}, kSmall).code == 0);
  CHECK(example("picture-gate.sh", {jobs, hashes}, kSmall).code == 0);
  auto other = kSmall;
  other.insert(other.end(), {"--cfg-scale", "3"});
  const Result changed = example("picture-gate.sh", {jobs, hashes}, other);
  CHECK(changed.code == 4);
  CHECK(contains(changed.err, "have changed"));
}

TEST_CASE("compare.sh: a report of the grid's rows") {
  const TempFolder folder;
  const std::string script = std::string(ATELIER_MODELS) + "/../compare/compare.sh", out = folder.file("report");
  const Result result = run({.program = "/bin/bash",
                             .args = {script, out, "--models", tiny_model("sd15"), "--steps", "1", "--warmup", "0",
                                      "-W", "32", "-H", "24", "--threads", "1", "--quiet"},
                             .env = {{"BENCH", tool("sd-bench")}},
                             .timeout = std::chrono::minutes(4)});
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(lines_of(folder.read("report/results.jsonl")).size() == 3);
  CHECK(std::filesystem::exists(out + "/report.html"));
}

namespace {

/// A script that trains the model that ships, with so few steps that nothing is learnt.
Result teach(const std::string& script, const std::string& folder, std::vector<std::string> more) {
  more.insert(more.begin(), {std::string(ATELIER_MODELS) + "/../" + script, folder});
  more.insert(more.end(), {"--threads", "1"});
  return run({.program = "/bin/bash",
              .args = more,
              .env = {{"BIN", std::filesystem::path(tool("sd-txt2img")).parent_path()}, {"COUNT", "1"}},
              .timeout = std::chrono::minutes(4)});
}

}  // namespace

TEST_CASE("lora/teach-bullseye.sh, a step of it: a file, a count, and a second call that leaves it alone") {
  const TempFolder folder;
  for (int i = 0; i < 2; ++i) {
    const Result r = teach("lora/teach-bullseye.sh", folder.file("run"), {"--steps", "1", "--batch-size", "1"});
    CAPTURE(r.err);
    REQUIRE(r.code == 0);
    CHECK(contains(r.out, "bullseyes: 0 of 4 before, 0 of 4 after"));
  }
  CHECK(std::filesystem::exists(folder.file("run/bullseye.safetensors")));
}

TEST_CASE("dreambooth/teach-wasp-ball.sh, a step of it: two models, a table, and a second call that leaves them alone") {
  const TempFolder folder;
  std::string first;
  for (int i = 0; i < 2; ++i) {
    const Result r = teach("dreambooth/teach-wasp-ball.sh", folder.file("run"),
                           {"--steps", "1", "--batch-size", "1", "--num-class-images", "1", "--class-steps", "1"});
    CAPTURE(r.err);
    REQUIRE(r.code == 0);
    const auto lines = r.out_lines();
    REQUIRE(lines.size() == 6);
    CHECK(lines[2].starts_with("| before | 0 of 1 | "));
    CHECK(lines[3].starts_with("| with | 0 of 1 | "));
    CHECK(lines[4].starts_with("| without | 0 of 1 | "));
    const std::string model = folder.read("run/with/unet/diffusion_pytorch_model.safetensors");
    CHECK(!model.empty());
    CHECK((i == 0 || model == first));
    first = model;
  }
  CHECK(std::filesystem::exists(folder.file("run/samples.png")));
}
