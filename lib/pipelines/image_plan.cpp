#include "pipelines/image_plan.h"

#include <algorithm>
#include <string>
#include <vector>

#include "models/clip/names.h"
#include "models/clip/text_encoder.h"
#include "models/controlnet/controlnet.h"
#include "models/rrdb/rrdb.h"

namespace atelier::pipelines {

using base::Json;

namespace {

bool lies_in(const io::WeightSource& source, const std::shared_ptr<io::WeightSource>& file) {
  return file && source.files().front().path == file->files().front().path;
}

/// Marks a component's tensors and adds its share to the plan. `whole`: the single file that may hold it, or null.
void account(nn::Module& network, io::WeightSource& source, const nn::NameMap& names, const std::string& prefix,
             std::int64_t element, const std::shared_ptr<io::WeightSource>& whole, MemoryPlan& plan) {
  nn::account_parameters(network, source, names);
  for (const auto& parameter : network.named_parameters()) {
    plan.parameters += parameter.value().numel();
    plan.weight_bytes += parameter.value().numel() * element;
  }
  for (const std::string& name : source.missing()) plan.missing.push_back(prefix + name);
  if (lies_in(source, whole)) return;
  for (const std::string& name : source.unused()) plan.unused.push_back(prefix + name);
  plan.tensors += static_cast<std::int64_t>(source.names().size());
}

/// ControlNets: weights, and their residuals of all rows. What they compute with is less than the UNet's, and comes before it.
void add_controls(const ImageModelFiles& files, const ImagePlanRequest& request, std::int64_t latent_pixels,
                  MemoryPlan& plan) {
  const auto element = static_cast<std::int64_t>(c10::elementSize(files.dtype));
  std::vector<std::string> seen;
  for (const ControlNetFiles& control : request.controls) {
    if (std::find(seen.begin(), seen.end(), control.path) != seen.end()) continue;
    seen.push_back(control.path);
    models::controlnet::ControlNet network(control.config);
    account(network, *control.weights, nn::NameMap(), control.path + "/", element, nullptr, plan);
  }
  if (request.controls.empty()) return;
  std::int64_t numbers = 0, pixels = latent_pixels;
  for (const auto& level : files.unet_config.levels) {
    numbers += (level.resnets + 1) * level.channels * pixels;
    pixels = (pixels + 3) / 4;
  }
  // Those of one ControlNet are added to the sum of those before.
  plan.activation_bytes += (request.controls.size() > 1 ? 2 : 1) * 2 * request.batch * numbers * element;
}

/// The upscaler's last level, of one tile, comes when the diffusion is over; the enlarged pictures of a batch come on top.
void add_upscaler(const UpscalerFiles& upscaler, const ImagePlanRequest& request, MemoryPlan& plan) {
  const auto& config = upscaler.file.config;
  models::rrdb::RrdbNet network(config);
  account(network, *upscaler.file.weights, nn::NameMap(), upscaler.path + "/", 4, nullptr, plan);
  const std::int64_t area = config.scale() * config.scale(), tile = request.upscale_tile;
  const std::int64_t width = request.finished_width, height = request.finished_height;
  const std::int64_t tile_bytes = std::min(width, tile) * std::min(height, tile) * area * config.features * 3 * 4;
  const std::int64_t band_bytes = width * std::min(height, tile) * area * 3 * 4 * 3;
  plan.activation_bytes =
      std::max(plan.activation_bytes, tile_bytes + band_bytes) + request.batch * width * height * area * 3;
}

}  // namespace

MemoryPlan plan_memory(const ImageModelFiles& files, const ImagePlanRequest& request) {
  const std::int64_t width = request.width, height = request.height, batch = request.batch;
  MemoryPlan plan;
  plan.family = family_name(files.family);
  const auto element = static_cast<std::int64_t>(c10::elementSize(files.dtype));
  for (std::size_t i = 0; i < files.text_encoders.size(); ++i) {
    const TextEncoderFiles& encoder = files.text_encoders[i];
    models::clip::TextEncoder network(encoder.config);
    models::clip::note_ignored(*encoder.weights);
    const std::string prefix = i + 1 == files.text_encoders.size() && i > 0 ? "text_encoder_2/" : "text_encoder/";
    account(network, *encoder.weights, models::clip::Names(*encoder.weights), prefix, element, files.single_file, plan);
  }
  models::unet::UNet unet(files.unet_config);
  account(unet, *files.unet, nn::NameMap(), "unet/", element, files.single_file, plan);
  const auto vae = files.build_vae();
  const std::int64_t vae_element = files.dtype == at::kHalf && vae->force_upcast() ? 4 : element;
  account(*vae, *files.vae, models::vae::Names(*files.vae), "vae/", vae_element, files.single_file, plan);
  if (files.single_file) {  // its parts share it, and some tensors belong to none of them
    plan.tensors += static_cast<std::int64_t>(files.single_file->names().size());
    for (const std::string& name : files.single_file->unused()) plan.unused.push_back(name);
  }

  // The widest places: the UNet's finest level with its skips (a picture's two halves of guidance side by side on a CPU,
  // all pictures on a GPU), and the decoder's last level, whose maps have the picture's size.
  const std::int64_t downscale = vae->downscale();
  const std::int64_t latent_pixels = (width / downscale) * (height / downscale);
  const std::int64_t rows = files.device.is_cpu() ? 2 : 2 * batch;
  const std::int64_t unet_bytes = rows * latent_pixels * files.unet_config.levels.front().channels * 24 * element;
  const std::int64_t tile = 512;
  const std::int64_t decoded = request.tiled_vae ? std::min(width, tile) * std::min(height, tile) : width * height;
  const Json channels = files.vae_json.value("block_out_channels", Json::array({128}));
  const std::int64_t finest = channels.is_array() && !channels.empty() && channels[0].is_number_integer()
                                  ? channels[0].get<std::int64_t>()
                                  : 128;
  const std::int64_t vae_bytes = decoded * finest * 2 * 4 * vae_element;
  plan.activation_bytes = std::max(unet_bytes, vae_bytes) + batch * width * height * 3 * 5;
  add_controls(files, request, latent_pixels, plan);
  if (request.upscaler != nullptr) add_upscaler(*request.upscaler, request, plan);
  return plan;
}

}  // namespace atelier::pipelines
