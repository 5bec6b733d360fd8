#include "pipelines/image_model.h"

#include <algorithm>
#include <chrono>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"

namespace atelier::pipelines {

using base::Error;
using base::ExitCode;
using base::Json;

std::shared_ptr<const ImageModel> ImageModel::load(const ImageModelFiles& files) {
  const auto start = std::chrono::steady_clock::now();
  const at::NoGradGuard no_grad;
  auto model = std::make_shared<ImageModel>();
  model->family = files.family;
  model->scheduler_json = files.scheduler_json;
  model->scheduler_path = files.scheduler_path;
  model->zero_empty_negative = files.zero_empty_negative;
  model->aesthetic_score = files.aesthetic_score;
  for (const TextEncoderFiles& encoder : files.text_encoders) {
    ImageTextEncoder loaded;
    loaded.tokenizer = encoder.open_tokenizer();
    if (loaded.tokenizer->max_length() > encoder.config.max_positions)
      throw Error(ExitCode::data,
                  fmt::format("{}: model_max_length is {}, the text encoder has {} positions", encoder.tokenizer_folder,
                              loaded.tokenizer->max_length(), encoder.config.max_positions));
    if (loaded.tokenizer->size() > encoder.config.vocab_size)
      throw Error(ExitCode::data,
                  fmt::format("the tokenizer has ids up to {}, the text encoder knows {}", loaded.tokenizer->size() - 1,
                              encoder.config.vocab_size),
                  "--tokenizer must be the model's own");
    loaded.network = std::make_shared<models::clip::TextEncoder>(encoder.config);
    models::clip::note_ignored(*encoder.weights);
    nn::load_parameters(*loaded.network, *encoder.weights, nn::NameMap(), files.dtype, files.device);
    model->text_encoders.push_back(std::move(loaded));
  }
  model->unet = std::make_shared<models::unet::UNet>(files.unet_config);
  nn::load_parameters(*model->unet, *files.unet, nn::NameMap(), files.dtype, files.device);
  model->vae = files.build_vae();
  const bool upcast = files.dtype == at::kHalf && model->vae->force_upcast();
  nn::load_parameters(*model->vae, *files.vae, models::vae::Names(*files.vae), upcast ? at::kFloat : files.dtype,
                      files.device);
  model->load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return model;
}

namespace {

bool lies_in(const io::WeightSource& source, const std::shared_ptr<io::WeightSource>& file) {
  return file && source.files().front().path == file->files().front().path;
}

/// Marks a component's tensors and adds its share to the plan. `whole`: the single file that may hold it, or null.
void account(nn::Module& network, io::WeightSource& source, const nn::NameMap& names, const std::string& prefix,
             std::int64_t element, const std::shared_ptr<io::WeightSource>& whole, MemoryPlan& plan) {
  nn::account_parameters(network, source, names);
  for (const auto& parameter : network.parameters()) {
    plan.parameters += parameter.numel();
    plan.weight_bytes += parameter.numel() * element;
  }
  for (const std::string& name : source.missing()) plan.missing.push_back(prefix + name);
  if (lies_in(source, whole)) return;
  for (const std::string& name : source.unused()) plan.unused.push_back(prefix + name);
  plan.tensors += static_cast<std::int64_t>(source.names().size());
}

}  // namespace

MemoryPlan plan_memory(const ImageModelFiles& files, std::int64_t width, std::int64_t height, std::int64_t batch,
                       bool tiled_vae) {
  MemoryPlan plan;
  plan.family = family_name(files.family);
  const auto element = static_cast<std::int64_t>(c10::elementSize(files.dtype));
  for (std::size_t i = 0; i < files.text_encoders.size(); ++i) {
    const TextEncoderFiles& encoder = files.text_encoders[i];
    models::clip::TextEncoder network(encoder.config);
    models::clip::note_ignored(*encoder.weights);
    const std::string prefix = i + 1 == files.text_encoders.size() && i > 0 ? "text_encoder_2/" : "text_encoder/";
    account(network, *encoder.weights, nn::NameMap(), prefix, element, files.single_file, plan);
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
  const std::int64_t decoded = tiled_vae ? std::min(width, tile) * std::min(height, tile) : width * height;
  const Json channels = files.vae_json.value("block_out_channels", Json::array({128}));
  const std::int64_t finest = channels.is_array() && !channels.empty() && channels[0].is_number_integer()
                                  ? channels[0].get<std::int64_t>()
                                  : 128;
  const std::int64_t vae_bytes = decoded * finest * 2 * 4 * vae_element;
  plan.activation_bytes = std::max(unet_bytes, vae_bytes) + batch * width * height * 3 * 5;
  return plan;
}

}  // namespace atelier::pipelines
