// The image tools beside diffusers: every sampler, text to image, image to image and inpainting, on tiny random models.
#include "image_tools/models.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "models/seeded.h"

#include "support/doctest_last.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

constexpr double kLargest = 2, kMean = 0.1;  // of 255

/// Which cases a run makes: the autoencoder belongs to the whole run.
struct Selection {
  std::string model, kind, vae = {};

  bool has(const Json& c) const {
    return c["model"] == model && c["tool"] == kind && c["flags"].value("vae", "") == vae;
  }
};

/// The jobs of one tool on one model, the picture of each case in `folder`.
std::string jobs_of(const Selection& selection, const TempFolder& folder) {
  std::string lines;
  for (const Json& c : picture_cases()) {
    if (!selection.has(c)) continue;
    Json job = c["flags"];
    job.erase("vae");
    job["id"] = c["name"];
    job["output"] = folder.file(c["name"].get<std::string>() + "_%d.png");
    if (selection.kind != "txt2img") job["init"] = picture_data("init.png");
    if (selection.kind == "inpaint") {
      job["mask"] = picture_data("mask.png");
      job["feather"] = 0;
    }
    if (job.contains("lora")) job["lora"][0] = tiny_loras() + "/" + job["lora"][0].get<std::string>();
    lines += job.dump() + "\n";
  }
  return lines;
}

/// How far the worst picture of this process was from diffusers', of all that were compared.
struct Worst {
  std::size_t pictures = 0;
  double largest = 0, mean = 0;
  ~Worst() {
    std::printf("%zu pictures beside diffusers': at most %g of 255 apart, %g on average\n", pictures, largest, mean);
  }
};

void compare(const Selection& selection, const Json& c, const TempFolder& folder) {
  static Worst worst;
  const auto name = c["name"].get<std::string>();
  for (int i = 0; i < c["flags"]["count"].get<int>(); ++i) {
    const std::string number = std::to_string(i);
    const Distance d =
        distance(folder.file(name + "_" + number + ".png"), name + "." + number, selection.kind == "inpaint");
    CHECK(d.largest <= kLargest);
    CHECK(d.mean <= kMean);
    ++worst.pictures;
    worst.largest = std::max(worst.largest, d.largest);
    worst.mean = std::max(worst.mean, d.mean);
  }
}

void compare_all(const Selection& selection) {
  const TempFolder folder;
  write_tensors(folder.file("toy.safetensors"), {{"<toy>", seeded("toy", {2, 24})}});
  std::vector<std::string> args = {"--jobs", "-", "--quiet", "--lora-dir", tiny_loras()};
  if (selection.model == "sd15") args.insert(args.end(), {"--embedding", folder.file("toy.safetensors")});
  if (!selection.vae.empty()) args.insert(args.end(), {"--vae", tiny_model(selection.vae)});
  const Result result = image_tool("sd-" + selection.kind, selection.model, args, jobs_of(selection, folder));
  CAPTURE(result.err);
  CHECK(result.code == 0);
  std::map<std::string, Json> errors;
  for (const Json& record : json_lines(result.out))
    if (record.contains("error")) errors[record["id"].get<std::string>()] = record["error"];
  std::size_t compared = 0;
  for (const Json& c : picture_cases()) {
    if (!selection.has(c)) continue;
    const auto name = c["name"].get<std::string>();
    const std::string flags = c["flags"].dump();
    CAPTURE(flags);
    ++compared;
    if (errors.contains(name))
      FAIL_CHECK(errors[name].dump());
    else
      compare(selection, c, folder);
  }
  CHECK(compared > 0);
}

}  // namespace

TEST_CASE("text to image equals diffusers for every sampler: SD 1.5") { compare_all({"sd15", "txt2img"}); }
TEST_CASE("text to image equals diffusers for every sampler: SD 2 with v-prediction") {
  compare_all({"sd2v", "txt2img"});
}
TEST_CASE("text to image equals diffusers for every sampler: SDXL") { compare_all({"sdxl", "txt2img"}); }
TEST_CASE("image to image equals diffusers: SD 1.5") { compare_all({"sd15", "img2img"}); }
TEST_CASE("image to image equals diffusers: SD 2 with v-prediction") { compare_all({"sd2v", "img2img"}); }
TEST_CASE("image to image equals diffusers: SDXL") { compare_all({"sdxl", "img2img"}); }
TEST_CASE("inpainting equals diffusers inside the mask: 4 channels") {
  for (const char* model : {"sd15", "sd2v", "sdxl"}) compare_all({model, "inpaint"});
}
TEST_CASE("inpainting equals diffusers for every sampler: 9 channels") { compare_all({"inpaint", "inpaint"}); }
TEST_CASE("with a TAESD in place of the autoencoder, text and image to image equal diffusers") {
  for (const char* kind : {"txt2img", "img2img"}) compare_all({"sd15", kind, "taesd"});
}
