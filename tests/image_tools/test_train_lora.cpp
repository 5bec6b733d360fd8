// sd-train-lora as its users see it: what it writes, and what reads it.
#include <algorithm>
#include <filesystem>
#include <vector>

#include "image_tools/models.h"
#include "image_tools/trainers.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "io/weight_source.h"

#include "support/doctest_last.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

class Pictures {
 public:
  Pictures() { write_pictures(folder, {"a cat in the sea", "an old man", "a cat", "the sea"}); }
  std::string file(const std::string& name) const { return folder.file(name); }
  std::string data() const { return folder.file("data"); }

  std::vector<std::string> args(const std::string& output, std::vector<std::string> more = {}) const {
    std::vector<std::string> all{"--data",  data(),    "--output", file(output), "--resolution", "32",
                                 "--seed",  "5",       "--rank",   "2",          "--batch-size", "2",
                                 "--warmup", "0",      "--unet-lr", "1e-3",      "--quiet"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  TempFolder folder;
};

Result train(const std::string& model, const std::vector<std::string>& args) { return image_tool("sd-train-lora", model, args); }

void check_refused(const Result& result, int code, const std::string& part) {
  CAPTURE(result.err);
  CHECK(result.code == code);
  CHECK(result.out.empty());
  CHECK(contains(result.err, "sd-train-lora: error: "));
  CHECK(contains(result.err, part));
}

std::vector<std::string> names_of(const std::string& path) { return io::WeightSource::open(path)->names(); }

/// A picture that sd-txt2img makes with these flags.
std::string picture(const Pictures& p, const std::string& model, std::vector<std::string> more) {
  const std::string path = p.file("drawn.png");
  more.insert(more.end(), {"-W", "32", "-H", "24", "--steps", "3", "-s", "1", "-o", path, "--quiet"});
  const Result result = image_tool("sd-txt2img", model, more);
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  return p.folder.read("drawn.png");
}

}  // namespace

TEST_CASE("a LoRA that sd-txt2img takes whole, records, and a second call that changes nothing") {
  const Pictures p;
  for (const std::string model : {"sd15", "sd2v", "sdxl"})
    for (const std::string format : {"kohya", "peft"}) {
      CAPTURE(model);
      CAPTURE(format);
      const std::string name = model + "." + format + ".safetensors";
      const auto args = p.args(name, {"--steps", "3", "--json", "--train-text-encoder", "--targets", "attn-mlp", "--conv-rank", "1",
                                      "--format", format, "--grad-checkpointing", "--manifest", p.file("manifest.json")});
      const Json record = one_record(train(model, args));
      CHECK(record["end"] == "finished");
      CHECK(record["steps"] == 3);
      CHECK(record["pictures"] == 4);
      CHECK(record["output"] == p.file(name));
      CHECK(record["run_dir"] == p.file(model + "." + format + ".run"));
      CHECK(std::filesystem::exists(p.file(model + "." + format + ".run/metrics.jsonl")));
      CHECK(base::read_json_file(p.file("manifest.json"))["exit_code"] == 0);
      const std::string bytes = p.folder.read(name);
      const auto plain = picture(p, model, {"-p", "a cat"});
      CHECK(picture(p, model, {"-p", "a cat", "--lora", p.file(name) + ":8", "--strict"}) != plain);
      CHECK(one_record(train(model, args))["end"] == "was_finished");
      CHECK(p.folder.read(name) == bytes);
      if (format == "kohya") {
        const auto header = io::parse_safetensors(io::MappedFile::open(p.file(name))->bytes(), name);
        for (const char* key : {"ss_network_dim", "ss_base_model_version", "ss_tag_frequency", "sshs_model_hash", "modelspec.architecture"})
          CHECK(header.metadata.contains(key));
      }
    }
}

TEST_CASE("DoRA, caches and samples; the picture with the file is the last sample") {
  const Pictures p;
  p.folder.write("prompts.txt", "# a comment\na cat --n an old man --w 32 --h 24 --d 1 --s 3 --l 7.5\n");
  const auto args = p.args("out.safetensors", {"--steps", "4", "--method", "dora", "--cache-latents", "--unet-lr", "0.05",
                                               "--sample-prompts", p.file("prompts.txt"), "--sample-every", "2"});
  const Result result = train("sd15", args);
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  for (const char* step : {"0", "2", "4"})
    CHECK(std::filesystem::exists(p.file("out.run/samples/step-" + std::string(step) + "-0.png")));
  CHECK(std::filesystem::exists(p.file("out.run/cache")));
  picture(p, "sd15", {"-p", "a cat", "-n", "an old man", "--lora", p.file("out.safetensors"), "--strict"});
  const Distance d = distance_of_files(p.file("drawn.png"), p.file("out.run/samples/step-4-0.png"));
  CHECK(d.largest <= 2);
  CHECK(distance_of_files(p.file("drawn.png"), p.file("out.run/samples/step-0-0.png")).largest > 2);
  // Caches change nothing but the time: the same draws come from the same moments.
  const auto names = names_of(p.file("out.safetensors"));
  CHECK(std::any_of(names.begin(), names.end(), [](const auto& n) { return n.ends_with(".dora_scale"); }));
}

TEST_CASE("with everything cached the other networks are let go, and training is the same") {
  const Pictures p;
  p.folder.write("prompts.txt", "a cat\n");
  const std::vector<std::string> flags = {"--steps", "6", "--cache-latents", "--flip", "--caption-dropout", "0.4"};
  auto held = flags;  // samples need them
  held.insert(held.end(), {"--sample-prompts", p.file("prompts.txt"), "--sample-every", "6"});
  REQUIRE(train("sdxl", p.args("alone.safetensors", flags)).code == 0);
  REQUIRE(train("sdxl", p.args("held.safetensors", held)).code == 0);
  const auto losses = [&](const std::string& name) {
    std::vector<double> all;
    for (const Json& line : json_lines(p.folder.read(name + ".run/metrics.jsonl")))
      if (line.contains("loss")) all.push_back(line["loss"]);
    return all;
  };
  CHECK(losses("alone").size() == 6);
  CHECK(losses("alone") == losses("held"));
}

TEST_CASE("textual inversion: a file that prompts can name") {
  const Pictures p;
  for (const std::string model : {"sd15", "sdxl"}) {
    CAPTURE(model);
    auto args = p.args(model + "-toy.safetensors", {"--steps", "3", "--method", "textual-inversion", "--token", "<toy>", "--vectors", "2",
                                                    "--token-lr", "0.1"});
    for (const char* flag : {"--rank", "--unet-lr"}) {
      const auto at = std::find(args.begin(), args.end(), flag);
      args.erase(at, at + 2);
    }
    const Result result = train(model, args);
    CAPTURE(result.err);
    REQUIRE(result.code == 0);
    const auto names = names_of(p.file(model + "-toy.safetensors"));
    CHECK(names == (model == "sdxl" ? std::vector<std::string>{"clip_g", "clip_l"} : std::vector<std::string>{"<toy>"}));
    const std::string embedding = p.file(model + "-toy.safetensors");
    CHECK(picture(p, model, {"-p", "a " + model + "-toy", "--embedding", embedding}) != picture(p, model, {"-p", "a " + model + "-toy"}));
  }
}

TEST_CASE("another dataset, another setting, another file: refused") {
  const Pictures p;
  REQUIRE(train("sd15", p.args("out.safetensors", {"--steps", "2"})).code == 0);
  check_refused(train("sd15", p.args("out.safetensors", {"--steps", "2", "--alpha", "3"})), 64, "alpha");
  check_refused(train("sd15", p.args("out.safetensors", {"--steps", "2", "--resume", "never"})), 73, "out.safetensors");
  p.folder.write("data/0.txt", "another caption");
  check_refused(train("sd15", p.args("out.safetensors", {"--steps", "2"})), 64, "data");
  p.folder.write("foreign.safetensors", "x");
  check_refused(train("sd15", p.args("foreign.safetensors", {"--steps", "2"})), 73, "is there already");
  CHECK(train("sd15", p.args("out.safetensors", {"--steps", "2", "--alpha", "3", "--overwrite"})).code == 0);
}

TEST_CASE("bad flags and models: one line, before anything is computed") {
  const Pictures p;
  struct Bad {
    std::vector<std::string> more;
    int code;
    const char* part;
  };
  const Bad bad[] = {{{"--targets", "most"}, 64, "--targets"},
                     {{"--te-lr", "1"}, 64, "--train-text-encoder"},
                     {{"--token", "x"}, 64, "textual-inversion"},
                     {{"--huber-c", "1"}, 64, "--loss huber"},
                     {{"--sample-every", "5"}, 64, "--sample-prompts"},
                     {{"--zero-terminal-snr"}, 64, "v-prediction"},
                     {{"--precision", "fp16"}, 69, "fp16"},
                     {{"--clip-skip", "9"}, 64, "3 layers"},
                     {{"--sample-prompts", "/none"}, 66, "/none"},
                     {{"--unet-learning-rate", "1"}, 64, "unknown flag"}};
  for (const Bad& b : bad) {
    CAPTURE(b.part);
    check_refused(train("sd15", p.args("out.safetensors", b.more)), b.code, b.part);
    CHECK_FALSE(std::filesystem::exists(p.file("out.safetensors")));
  }
  check_refused(train("sd15", p.args("out.bin")), 64, ".safetensors");
  check_refused(train("inpaint", p.args("out.safetensors")), 65, "4 channels");
  check_refused(train("sd15", {"--output", p.file("out.safetensors")}), 64, "--data is missing");
  check_refused(train("sd15", {"--data", p.file("none"), "--output", p.file("out.safetensors")}), 66, "none");
  p.folder.write("prompts.txt", "a cat --w 33\n");
  check_refused(train("sd15", p.args("out.safetensors", {"--sample-prompts", p.file("prompts.txt")})), 65, "line 1: --w 33");
}

TEST_CASE("--plan says what a run needs, --max-ram refuses it, --check looks at the pictures alone") {
  const Pictures p;
  const Json plan = one_record(train("sd15", p.args("out.safetensors", {"--plan"})));
  for (const char* part : {"weights", "activations", "optimizer", "total"}) CHECK(plan["bytes"][part].get<std::int64_t>() > 0);
  const Json less = one_record(train("sd15", p.args("out.safetensors", {"--plan", "--grad-checkpointing"})));
  CHECK(less["bytes"]["activations"].get<std::int64_t>() <= plan["bytes"]["activations"].get<std::int64_t>());
  check_refused(train("sd15", p.args("out.safetensors", {"--max-ram", "1K"})), 71, "--max-ram");
  const Json report = one_record(train("sd15", {"--data", p.data(), "--resolution", "32", "--check", "--json", "--contact-sheet",
                                                p.file("sheet.png")}));
  CHECK(report["kept"] == 4);
  CHECK(std::filesystem::exists(p.file("sheet.png")));
  CHECK_FALSE(std::filesystem::exists(p.file("out.run")));
}
