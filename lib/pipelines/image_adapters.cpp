#include "pipelines/image_adapters.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "io/torch_checkpoint.h"
#include "nn/packed_weight.h"

namespace atelier::pipelines {

using models::adapters::Adapter;
using models::adapters::Part;

std::vector<Part> adapter_parts(const ImageModel& model) {
  std::vector<Part> parts;
  parts.push_back({"unet", model.unet, &model.unet->config()});
  // SDXL's refiner has the second text encoder only, which diffusers and kohya number as such.
  const bool refiner = model.family == ImageFamily::sdxl_refiner;
  for (std::size_t i = 0; i < model.text_encoders.size(); ++i)
    parts.push_back({i == 0 && !refiner ? "text_encoder" : "text_encoder_2", model.text_encoders[i].network, nullptr});
  return parts;
}

Adapter open_lora(const std::string& path) {
  Adapter adapter;
  if (io::is_torch_checkpoint(path)) {
    adapter.file = io::open_torch_checkpoint(path);
    return adapter;
  }
  adapter.file = io::WeightSource::open(path);
  adapter.metadata = io::parse_safetensors(io::MappedFile::open(path)->bytes(), path).metadata;
  return adapter;
}

ImageLoras::ImageLoras(const ImageModel& model) : parts_(adapter_parts(model)), merger_(parts_) {}

const std::vector<LoraReport>& ImageLoras::use(const std::vector<LoraRequest>& wanted) {
  const bool same = std::equal(reports_.begin(), reports_.end(), wanted.begin(), wanted.end(),
                               [](const LoraReport& report, const LoraRequest& w) { return report.request == w; });
  if (same) return reports_;
  std::vector<Adapter> adapters;
  for (const LoraRequest& request : wanted) {
    if (!files_.contains(request.path)) files_[request.path] = open_lora(request.path);
    Adapter adapter = files_[request.path];
    adapter.scale = request.unet_scale;
    adapter.text_scale = request.text_scale;
    adapters.push_back(std::move(adapter));
  }
  for (const Part& part : parts_) nn::unpack(*part.module);
  auto found = merger_.apply(adapters);
  std::vector<LoraReport> reports;
  for (std::size_t i = 0; i < wanted.size(); ++i)
    reports.push_back({wanted[i], found[i].modules, found[i].matched, std::move(found[i].unmatched)});
  reports_ = std::move(reports);
  const auto stranger =
      std::find_if(reports_.begin(), reports_.end(), [](const LoraReport& report) { return report.matched == 0; });
  if (stranger == reports_.end()) return reports_;
  const std::string path = stranger->request.path;
  merger_.apply({});
  reports_.clear();
  throw base::Error(base::ExitCode::data, fmt::format("{}: none of its keys belongs to this model", path),
                    "it was made for another family of models, or is no LoRA");
}

}  // namespace atelier::pipelines
