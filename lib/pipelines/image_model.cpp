#include "pipelines/image_model.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"
#include "base/stopwatch.h"
#include "models/clip/names.h"
#include "nn/frozen.h"
#include "nn/packed_weight.h"

namespace atelier::pipelines {

using base::Error;
using base::ExitCode;

namespace {

void pack_weights(const ImageModel& model) {
  nn::pack_when_used(*model.unet);
  nn::pack_when_used(*model.vae);
  for (const ImageTextEncoder& encoder : model.text_encoders) nn::pack_when_used(*encoder.network);
}

void load_as(ImageModel::Weights weights, nn::Module& module, io::WeightSource& source, const nn::NameMap& names,
             const ImageModelFiles& files) {
  if (weights == ImageModel::Weights::frozen)
    nn::load_frozen_parameters(module, source, names, files.dtype, files.device);
  else
    nn::load_parameters(module, source, names, files.dtype, files.device);
}

}  // namespace

std::shared_ptr<const ImageModel> ImageModel::load(const ImageModelFiles& files, Weights weights) {
  const base::Stopwatch watch;
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
    load_as(weights, *loaded.network, *encoder.weights, models::clip::Names(*encoder.weights), files);
    model->text_encoders.push_back(std::move(loaded));
  }
  model->unet = std::make_shared<models::unet::UNet>(files.unet_config);
  load_as(weights, *model->unet, *files.unet, nn::NameMap(), files);
  model->vae = files.build_vae();
  const bool upcast = files.dtype == at::kHalf && model->vae->force_upcast();
  nn::load_parameters(*model->vae, *files.vae, models::vae::Names(*files.vae), upcast ? at::kFloat : files.dtype,
                      files.device);
  if (weights == Weights::packed) pack_weights(*model);
  model->load_seconds = watch.seconds();
  return model;
}

}  // namespace atelier::pipelines
