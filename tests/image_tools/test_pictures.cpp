// The image tools beside diffusers: every sampler, text to image, image to image and inpainting, on tiny random models.
#include "image_tools/models.h"

#include <filesystem>
#include <map>

#include "io/safetensors.h"
#include "models/seeded.h"

#include "support/doctest_last.h"

namespace {

using namespace atelier;
using namespace atelier::test;
using base::Json;

constexpr double kLargest = 2, kMean = 0.1;  // of 255

bool has_tool(const std::string& kind) { return std::filesystem::exists(tool("sd-" + kind)); }

void write_toy(const std::string& path) {
  const at::Tensor toy = seeded("toy", {2, 24});
  io::TensorBytes bytes;
  bytes.info.name = "<toy>";
  bytes.info.dtype = io::DType::F32;
  bytes.info.shape = {2, 24};
  bytes.data = {static_cast<const std::byte*>(toy.data_ptr()), toy.nbytes()};
  io::write_safetensors(path, {{bytes}}, {});
}

/// The jobs of one tool on one model, the picture of each case in `folder`.
std::string jobs_of(const std::string& model, const std::string& kind, const TempFolder& folder) {
  std::string lines;
  for (const Json& c : picture_cases()) {
    if (c["model"] != model || c["tool"] != kind) continue;
    Json job = c["flags"];
    job["id"] = c["name"];
    job["output"] = folder.file(c["name"].get<std::string>() + "_%d.png");
    if (kind != "txt2img") job["init"] = picture_data("init.png");
    if (kind == "inpaint") {
      job["mask"] = picture_data("mask.png");
      job["feather"] = 0;
    }
    lines += job.dump() + "\n";
  }
  return lines;
}

void compare_all(const std::string& model, const std::string& kind) {
  if (!has_tool(kind)) return;
  const TempFolder folder;
  write_toy(folder.file("toy.safetensors"));
  std::vector<std::string> args = {"--jobs", "-", "--quiet"};
  if (model == "sd15") args.insert(args.end(), {"--embedding", folder.file("toy.safetensors")});
  const Result result = image_tool("sd-" + kind, model, args, jobs_of(model, kind, folder));
  CAPTURE(result.err);
  CHECK(result.code == 0);
  std::map<std::string, Json> errors;
  for (const Json& record : json_lines(result.out))
    if (record.contains("error")) errors[record["id"].get<std::string>()] = record["error"];
  std::size_t compared = 0;
  for (const Json& c : picture_cases()) {
    if (c["model"] != model || c["tool"] != kind) continue;
    const auto name = c["name"].get<std::string>();
    const std::string flags = c["flags"].dump();
    CAPTURE(flags);
    if (errors.contains(name)) FAIL_CHECK(errors[name].dump());
    if (errors.contains(name)) continue;
    for (int i = 0; i < c["flags"]["count"].get<int>(); ++i) {
      const Distance d = distance(folder.file(name + "_" + std::to_string(i) + ".png"), name + "." + std::to_string(i),
                                  kind == "inpaint");
      CHECK(d.largest <= kLargest);
      CHECK(d.mean <= kMean);
      ++compared;
    }
  }
  CHECK(compared >= 4);
}

}  // namespace

TEST_CASE("text to image equals diffusers for every sampler: SD 1.5") { compare_all("sd15", "txt2img"); }
TEST_CASE("text to image equals diffusers for every sampler: SD 2 with v-prediction") {
  compare_all("sd2v", "txt2img");
}
TEST_CASE("text to image equals diffusers for every sampler: SDXL") { compare_all("sdxl", "txt2img"); }
TEST_CASE("image to image equals diffusers: SD 1.5") { compare_all("sd15", "img2img"); }
TEST_CASE("image to image equals diffusers: SD 2 with v-prediction") { compare_all("sd2v", "img2img"); }
TEST_CASE("image to image equals diffusers: SDXL") { compare_all("sdxl", "img2img"); }
TEST_CASE("inpainting equals diffusers inside the mask: 4 channels") {
  compare_all("sd15", "inpaint");
  compare_all("sdxl", "inpaint");
}
TEST_CASE("inpainting equals diffusers for every sampler: 9 channels") { compare_all("inpaint", "inpaint"); }
