// sd-dreambooth as its users see it: class pictures, what it writes, what reads that, the token check, bad input.
#include <algorithm>
#include <filesystem>
#include <vector>

#include <ATen/ops/equal.h>

#include "image/read.h"
#include "image/write.h"
#include "image_tools/models.h"
#include "image_tools/single_file.h"
#include "io/tensor_file.h"

#include "support/doctest_last.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

/// Three pictures of a subject.
class Subject {
 public:
  Subject() {
    std::filesystem::create_directory(folder.path() / "own");
    for (int i = 0; i < 3; ++i) {
      image::Image picture(40, 40, 3);
      for (std::size_t k = 0; k < picture.data.size(); ++k)
        picture.data[k] = static_cast<std::uint8_t>((k * static_cast<std::size_t>(5 + i) + k / 120) % 256);
      image::write_image(folder.file("own/" + std::to_string(i) + ".png"), picture);
    }
  }

  std::string file(const std::string& name) const { return folder.file(name); }

  std::vector<std::string> args(const std::string& output, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all{"--instance-images",  file("own"),  "--class",       "cat", "--token",      "sea",
                                 "--output",           file(output), "--seed",        "5",   "--resolution", "32",
                                 "--num-class-images", "4",          "--class-steps", "2",   "--steps",      "3",
                                 "--warmup",           "0",          "--json"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  TempFolder folder;
};

Result dreambooth(const std::vector<std::string>& args, const std::string& model = "sd15") {
  return image_tool("sd-dreambooth", model, args);
}

void check_refused(const Result& result, int code, const std::string& part) {
  CAPTURE(result.err);
  CHECK(result.code == code);
  CHECK(result.out.empty());
  CHECK(contains(result.err, part));
}

std::string picture_of(const Subject& s, const std::string& model, std::vector<std::string> more = {}) {
  std::vector<std::string> args{"--model", model, "-p", "a photo of cat",    "-W",     "32", "-H", "32", "--steps", "2",
                                "-s",      "1",   "-o", s.file("drawn.png"), "--quiet"};
  args.insert(args.end(), more.begin(), more.end());
  const Result result = run({.program = tool("sd-txt2img"), .args = args});
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  return s.folder.read("drawn.png");
}

}  // namespace

TEST_CASE("class pictures are drawn first, only those that are missing, and the same whatever was there") {
  const Subject s;
  const Json first =
      one_record(dreambooth(s.args("a.safetensors", {"--method", "lora", "--class-images", s.file("class")})));
  CHECK(first["class_pictures_drawn"] == 4);
  CHECK(first["class_pictures"] == 4);
  CHECK(first["pictures"] == 3);
  CHECK(first["steps"] == 3);
  const std::string third = s.folder.read("class/class-00002.png");
  CHECK(!third.empty());
  std::filesystem::remove(s.file("class/class-00002.png"));
  const Json again =
      one_record(dreambooth(s.args("b.safetensors", {"--method", "lora", "--class-images", s.file("class")})));
  CHECK(again["class_pictures_drawn"] == 1);
  CHECK(s.folder.read("class/class-00002.png") == third);
  const auto a = io::read_tensors(s.file("a.safetensors")), b = io::read_tensors(s.file("b.safetensors"));
  REQUIRE(a.size() == b.size());
  for (const auto& [name, tensor] : a) CHECK(at::equal(tensor, b.at(name)));
  // A person's own pictures count.
  std::filesystem::remove(s.file("class/class-00003.png"));
  std::filesystem::copy(s.file("own/0.png"), s.file("class/my own.png"));
  const Json own =
      one_record(dreambooth(s.args("c.safetensors", {"--method", "lora", "--class-images", s.file("class")})));
  CHECK(own["class_pictures_drawn"] == 0);
  CHECK(own["class_pictures"] == 4);
  check_refused(
      dreambooth(s.args("d.safetensors", {"--method", "lora", "--class-images", s.file("class"), "--class", "dog"})),
      64, "was drawn with prompt \"a photo of cat\"");
}

TEST_CASE("full: a diffusers folder that the tools load, and that draws otherwise than before") {
  const Subject s;
  const std::string before = picture_of(s, tiny_model("sd15"));
  const Json record = one_record(dreambooth(
      s.args("model", {"--unet-lr", "1e-3", "--te-lr", "1e-3", "--train-text-encoder", "--drift-report", "2"})));
  CHECK(record["method"] == "full");
  CHECK(record["drift"]["pictures"] == 2);
  CHECK(record["drift"]["mean_absolute_difference"] > 0);
  const auto sheet = image::read_image(s.file("model.run/drift.png"));
  CHECK(sheet.width == 2 * 32 + 4);
  CHECK(sheet.height == 2 * 32 + 4);
  CHECK(picture_of(s, s.file("model")) != before);
  const auto origin = io::read_tensors(tiny_model("sd15") + "/unet/diffusion_pytorch_model.safetensors");
  const auto trained = io::read_tensors(s.file("model/unet/diffusion_pytorch_model.safetensors"));
  CHECK(origin.size() == trained.size());
  // The same command again leaves it alone; another one does not take its place.
  CHECK(one_record(dreambooth(s.args(
            "model", {"--unet-lr", "1e-3", "--te-lr", "1e-3", "--train-text-encoder"})))["end"] == "was_finished");
  check_refused(dreambooth(s.args("model", {"--run-dir", s.file("other.run")})), 73, "holds a model, and no run of it");
}

TEST_CASE("full, from a single file: a whole diffusers folder comes of it, which draws what the file drew where nothing was learnt") {
  const Subject s;
  const SingleFileModel model;
  write_tensors(s.file("m.safetensors"), model.original());
  const std::vector<std::string> tokenizer{"--tokenizer", small_tokenizer()};
  const auto pixels = [&](const std::string& of, const std::vector<std::string>& more) {
    picture_of(s, of, more);
    return image::read_image(s.file("drawn.png")).data;
  };
  const auto before = pixels(s.file("m.safetensors"), tokenizer);
  auto args = s.args("model", {"--unet-lr", "0", "--prior-weight", "0", "--model", s.file("m.safetensors")});
  args.insert(args.end(), tokenizer.begin(), tokenizer.end());
  const Json record = one_record(dreambooth(args));
  CHECK(record["method"] == "full");
  for (const char* file : {"model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json",
                           "scheduler/scheduler_config.json", "tokenizer/vocab.json", "text_encoder/model.safetensors"})
    CHECK(std::filesystem::exists(s.file("model/") + file));
  CHECK(base::read_json_file(s.file("model/model_index.json"))["_class_name"] == "StableDiffusionPipeline");
  CHECK(pixels(s.file("model"), {}) == before);
  args = s.args("other", {"--unet-lr", "1e-3", "--prior-weight", "0", "--model", s.file("m.safetensors")});
  args.insert(args.end(), tokenizer.begin(), tokenizer.end());
  one_record(dreambooth(args));
  CHECK(pixels(s.file("other"), {}) != before);
}

TEST_CASE("without prior preservation there are no class pictures; several templates") {
  const Subject s;
  const Json record =
      one_record(dreambooth(s.args("a.safetensors", {"--method", "lora", "--prior-weight", "0", "--template", "{token}",
                                                    "--template", "the {token} {class}"})));
  CHECK(record["class_pictures"] == 0);
  CHECK(!std::filesystem::exists(s.file("a.run/class")));
}

TEST_CASE("steps and rates follow from the number of pictures") {
  const Subject s;
  auto args = s.args("a.safetensors", {"--method", "lora", "--prior-weight", "0", "--plan"});
  CHECK(dreambooth(args).code == 0);
  args = s.args("a.safetensors", {"--method", "lora", "--prior-weight", "0", "--batch-size", "10"});
  const auto steps = std::find(args.begin(), args.end(), "--steps");
  args.erase(steps, steps + 2);
  const Result result = dreambooth(args);
  CHECK(contains(result.err, "3 pictures: 30 steps at a rate of 0.0001"));
  CHECK(one_record(result)["steps"] == 30);
}

TEST_CASE("the token check") {
  const Subject s;
  const Result result = dreambooth({"--token", "cat", "--check-token", "--json"});
  const Json record = one_record(result);
  CHECK(record["token"] == "cat");
  CHECK(record["pieces"].size() >= 1);
  CHECK(record.contains("suggestions"));
  const Result text = dreambooth({"--token", "cat", "--check-token"});
  CHECK(text.code == 0);
  CHECK(contains(text.out, "\"cat\": "));
}

TEST_CASE("bad input is refused with the right code, before anything is drawn") {
  const Subject s;
  std::filesystem::create_directory(s.file("empty"));
  check_refused(dreambooth({"--class", "cat", "--output", s.file("a")}), 64, "--instance-images is missing");
  check_refused(dreambooth({"--instance-images", s.file("own"), "--output", s.file("a")}), 64, "--class is missing");
  check_refused(dreambooth({"--instance-images", s.file("own"), "--class", "cat"}), 64, "--output is missing");
  check_refused(dreambooth(s.args("a", {"--template", "a photo"})), 64, "has no {token}");
  check_refused(dreambooth(s.args("a.bin", {"--method", "lora"})), 64, ".safetensors");
  check_refused(dreambooth(s.args("a", {"--instance-images", s.file("empty")})), 65, "empty: no pictures");
  check_refused(dreambooth(s.args("a", {"--instance-images", s.file("none")})), 66, "none");
  CHECK(!std::filesystem::exists(s.file("a.run")));
  std::filesystem::create_directory(s.file("broken"));
  s.folder.write("broken/0.png", "no picture");
  check_refused(dreambooth(s.args("a", {"--class-images", s.file("broken"), "--num-class-images", "1"})), 65,
                "broken: no class picture can be used");
}
