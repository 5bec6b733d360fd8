// What a training of an image model needs, from headers alone.
#include <algorithm>

#include "cli/image_trainee.h"
#include "models/clip/text_encoder.h"
#include "models/unet/unet.h"
#include "pipelines/image_plan.h"

namespace atelier::cli {
namespace {

using models::adapters::Part;
using pipelines::ImageModelFiles;
using train::Precision;

/// The networks without weights, as pipelines::adapter_parts has them.
std::vector<Part> empty_parts(const ImageTrainOptions& o, const ImageModelFiles& files) {
  std::vector<Part> parts{{"unet", std::make_shared<models::unet::UNet>(files.unet_config), &files.unet_config}};
  for (std::size_t i = 0; o.train_text_encoder && i < files.text_encoders.size(); ++i)
    parts.push_back({i == 0 ? "text_encoder" : "text_encoder_2",
                     std::make_shared<models::clip::TextEncoder>(files.text_encoders[i].config), nullptr});
  return parts;
}

std::int64_t count_trained(const ImageTrainOptions& o, const ImageModelFiles& files) {
  std::int64_t numbers = 0;
  switch (method_of(o)) {
    case ImageMethod::textual_inversion:
      for (const auto& encoder : files.text_encoders) numbers += o.vectors * encoder.config.hidden_size;
      return numbers;
    case ImageMethod::full:
      for (const Part& part : empty_parts(o, files))
        for (const auto& parameter : part.module->named_parameters()) numbers += parameter.value().numel();
      return numbers;
    case ImageMethod::lora:
    case ImageMethod::dora: break;
  }
  const auto options = lora_options(o);
  for (const auto& layer : models::adapters::lora_layers(empty_parts(o, files), options))
    numbers += layer.numbers(options.dora);
  return numbers;
}

/// Bytes that the optimiser keeps for each trained number, besides the number and its gradient.
double state_bytes(const std::string& optimizer) {
  if (optimizer == "adamw") return 8;
  if (optimizer == "adamw8bit") return 2;
  if (optimizer == "lion") return 4;
  return 0;  // adafactor keeps rows and columns, sgd nothing
}

/// Numbers that the UNet keeps for its backward pass, for each picture. A residual block keeps the inputs of its two norms, and where
/// its convolutions are trained theirs and what its activations were given; a transformer block the inputs of its norms and maps,
/// queries, keys, values and results of its two attentions, and its feed-forward layer at four widths twice over. With checkpointing it
/// keeps its input and what its attentions and its products (but for those of few columns) came to.
std::int64_t unet_numbers(const models::unet::Config& c, std::int64_t latent_pixels, bool checkpointing,
                          bool trains_convolutions) {
  constexpr std::int64_t wide = 512, block = 26;
  const std::int64_t resnet = trains_convolutions ? 8 : 2, kept_resnet = checkpointing ? 2 : resnet;
  std::int64_t kept = 0, largest = 0, pixels = latent_pixels;
  for (const auto& level : c.levels) {
    const std::int64_t one = level.channels * pixels;
    const std::int64_t resnets = 2 * level.resnets + 1;
    const std::int64_t blocks = (level.down_attention ? level.resnets * level.depth : 0) +
                                (level.up_attention ? (level.resnets + 1) * level.up_depth : 0);
    const std::int64_t transformers = blocks > 0 ? 4 * resnets : 0;  // norms and projections around the blocks
    const std::int64_t kept_block = !checkpointing ? block : level.channels >= wide ? 18 : 4;
    kept += one * (resnets * kept_resnet + blocks * kept_block + transformers);
    largest = std::max(largest, one * (blocks > 0 ? block : resnet));
    pixels = (pixels + 3) / 4;
  }
  return kept + (checkpointing ? 2 * largest : largest);
}

}  // namespace

Plan image_train_plan(const ImageTrainOptions& o, const ImageTraineeFiles& trainee, std::int64_t width,
                      std::int64_t height, std::int64_t batch) {
  const ImageModelFiles& files = trainee.files;
  const auto memory =
      pipelines::plan_memory(files, {.width = width, .height = height, .batch = batch, .controls = {}});
  Plan plan;
  plan.family = memory.family;
  plan.missing = memory.missing;
  plan.unused = memory.unused;
  for (const auto& file : files.weight_files()) plan.files.push_back(file.path);
  plan.tensors = static_cast<std::uint64_t>(memory.tensors);
  plan.parameters = static_cast<std::uint64_t>(memory.parameters);
  plan.max_ram = o.common.max_ram_bytes();
  const bool full = method_of(o) == ImageMethod::full;
  const auto trained = static_cast<double>(count_trained(o, files));
  const double own = full ? 0 : 4;  // an adapter comes on top of the weights
  plan.weights = static_cast<std::uint64_t>(static_cast<double>(memory.weight_bytes) + trained * own);
  plan.optimizer = static_cast<std::uint64_t>(
      trained * (4 + state_bytes(o.train.optimizer) + (o.train.ema > 0 ? 4 : 0)));
  const std::int64_t element = trainee.precision == Precision::fp32 ? 4 : 2;
  const std::int64_t latent_pixels = (width / files.downscale()) * (height / files.downscale());
  const bool trains_convolutions = full || o.conv_rank > 0 || o.targets == "all";
  const std::int64_t unet =
      batch * unet_numbers(files.unet_config, latent_pixels, o.train.checkpointing, trains_convolutions) * element;
  // Latents and samples are computed when nothing is kept for a backward pass.
  plan.activations = static_cast<std::uint64_t>(std::max(unet, memory.activation_bytes));
  return plan;
}

}  // namespace atelier::cli
