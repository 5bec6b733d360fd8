#include "train/image/task.h"

#include <utility>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/seed.h"
#include "base/stop.h"
#include "train/precision.h"

namespace atelier::train::image {
namespace {

using base::Error;
using base::ExitCode;

void check_unet(const models::unet::Config& c) {
  if (c.in_channels == 4 && c.out_channels == 4) return;
  throw Error(ExitCode::data, fmt::format("training knows UNets of 4 channels; this one takes {} and gives {}",
                                          c.in_channels, c.out_channels),
              "models for inpainting cannot be trained");
}

}  // namespace

at::Tensor encode_moments(const models::vae::Autoencoder& vae, const at::Tensor& pixels) {
  const at::NoGradGuard no_grad;
  const WithoutAutocast plain(vae.device());
  const auto distribution = vae.encode(pixels.to(vae.device(), vae.dtype()));
  // An autoencoder without a variance gives the mean whatever is drawn.
  const auto logvar = distribution.logvar.defined() ? distribution.logvar : at::zeros_like(distribution.mean) - 1e4;
  return at::cat({distribution.mean, logvar}, 1).to(at::kCPU, at::kFloat);
}

std::vector<FixedPair> fixed_pairs(ImageDataset& data, const models::vae::Autoencoder& vae, std::int64_t timesteps,
                                   std::int64_t count, std::uint64_t seed) {
  std::vector<std::int64_t> parts;
  for (std::int64_t k = 0; k < count; ++k) parts.push_back(k);
  base::Generator order(seed);
  for (std::size_t i = parts.size(); i > 1; --i) std::swap(parts[i - 1], parts[order() % i]);
  at::Generator generator = at::detail::createCPUGenerator(seed);
  std::vector<FixedPair> pairs;
  for (std::int64_t k = 0; k < count; ++k) {
    base::throw_if_stopped();
    std::shared_ptr<ImageBatch> batch = data.batch(0, k % data.batches());
    const at::Tensor moments = batch->moments.defined() ? batch->moments : encode_moments(vae, batch->pixels);
    const auto halves = moments.chunk(2, 1);
    batch->latents =
        halves[0] + at::exp(0.5 * halves[1]) * at::randn(halves[0].sizes(), generator, at::TensorOptions(at::kFloat));
    batch->pixels = at::Tensor();
    const std::int64_t middle = (2 * parts[static_cast<std::size_t>(k)] + 1) * timesteps / (2 * count);
    FixedPair pair;
    pair.noise = at::randn(batch->latents.sizes(), generator, at::TensorOptions(at::kFloat));
    pair.timesteps = at::full({batch->latents.size(0)}, middle, at::kLong);
    pair.batch = std::move(batch);
    pairs.push_back(std::move(pair));
  }
  return pairs;
}

DiffusionTask::DiffusionTask(Networks networks, std::shared_ptr<const TextConditioner> text,
                             std::vector<Parameter> parameters, std::shared_ptr<BatchSource> data,
                             const schedulers::Config& scheduler, DiffusionTaskOptions options)
    : networks_(std::move(networks)),
      text_(std::move(text)),
      parameters_(std::move(parameters)),
      data_(std::move(data)),
      diffusion_(scheduler, options.loss),
      options_(std::move(options)) {
  check_unet(networks_.unet->config());
}

std::unique_ptr<Batch> DiffusionTask::next() {
  auto batch = data_->next();
  ++micro_batches_;
  return batch;
}

/// Scaled latents, (B, 4, h, w) f32 on the UNet's device.
at::Tensor DiffusionTask::latents_of(const ImageBatch& batch) const {
  const at::NoGradGuard no_grad;
  at::Tensor latents = batch.latents;
  if (!latents.defined()) {
    const at::Tensor moments = batch.moments.defined() ? batch.moments : encode_moments(*networks_.vae, batch.pixels);
    const auto halves = moments.chunk(2, 1);
    latents = halves[0] + at::exp(0.5 * halves[1]) * at::randn(halves[0].sizes(), at::kFloat);
  }
  return networks_.vae->scale(latents.to(at::kFloat)).to(networks_.unet->device());
}

Condition DiffusionTask::condition_of(const ImageBatch& batch) const {
  Condition condition;
  if (options_.cached_text) {
    condition = options_.cached_text(batch);
  } else {
    const at::AutoGradMode grad(options_.train_text);
    condition = text_->encode(batch.captions, options_.checkpointing);
  }
  const auto& unet = *networks_.unet;
  condition.context = condition.context.to(unet.device(), unet.dtype());
  if (condition.pooled.defined()) condition.pooled = condition.pooled.to(unet.device(), unet.dtype());
  return condition;
}

at::Tensor DiffusionTask::predict(const ImageBatch& batch, const at::Tensor& noised,
                                  const at::Tensor& timesteps) const {
  const Condition condition = condition_of(batch);
  models::unet::Input input;
  input.sample = noised;
  input.timestep = timesteps.to(noised.device());
  input.context = condition.context;
  if (networks_.xl) {
    input.text_embeds = condition.pooled;
    input.time_ids = batch.sizes.to(noised.device());
  }
  input.checkpointing = options_.checkpointing;
  return networks_.unet->forward(input).to(at::kFloat);  // (B, 4, h, w)
}

/// (B), of latents noised so.
at::Tensor DiffusionTask::losses(const ImageBatch& batch, const at::Tensor& latents, const at::Tensor& noise,
                                 const at::Tensor& timesteps) const {
  const at::Tensor prediction = predict(batch, diffusion_.add_noise(latents, noise, timesteps), timesteps);
  const at::Tensor target = diffusion_.target(latents, noise, timesteps);
  const at::Tensor mask = batch.mask.defined() ? batch.mask.to(latents.device()) : at::Tensor();
  return diffusion_.losses(prediction, target, timesteps, mask);
}

at::Tensor DiffusionTask::loss(const Batch& batch) {
  const auto& pictures = static_cast<const ImageBatch&>(batch);
  if (pictures.captions.empty()) return at::zeros({}, at::kFloat).requires_grad_(true);  // fills up an epoch's last step
  set_training(true);
  const at::Tensor latents = latents_of(pictures);
  const at::Tensor noise = diffusion_.draw_noise(latents);
  const at::Tensor timesteps = diffusion_.draw_timesteps(latents.size(0));
  const at::Tensor rows = losses(pictures, latents, noise, timesteps);  // (B)
  const at::Tensor weights = at::tensor(pictures.loss_weights, at::kFloat).to(rows.device());
  return (rows * weights).sum();
}

void DiffusionTask::skip(const Batch& batch) {
  const auto& pictures = static_cast<const ImageBatch&>(batch);
  if (pictures.captions.empty()) return;
  std::vector<std::int64_t> shape;  // of the latents
  if (pictures.latents.defined()) {
    shape = pictures.latents.sizes().vec();
  } else if (pictures.moments.defined()) {
    shape = pictures.moments.sizes().vec();
    shape[1] /= 2;
  } else {
    const std::int64_t side = networks_.vae->downscale();
    shape = {pictures.pixels.size(0), networks_.unet->config().in_channels, pictures.pixels.size(2) / side,
             pictures.pixels.size(3) / side};
  }
  if (!pictures.latents.defined()) at::randn(shape, at::kFloat);
  diffusion_.draw_noise(at::empty(shape, at::kFloat));
  diffusion_.draw_timesteps(shape[0]);
}

void DiffusionTask::set_training(bool training) const {
  if (options_.set_training) options_.set_training(training);
}

base::Json DiffusionTask::position() const { return {{"data", data_->position()}, {"micro_batches", micro_batches_}}; }

void DiffusionTask::seek(const base::Json& position) {
  const std::string what = "state.json: position";
  if (!position.is_object() || !position.contains("data")) throw Error(ExitCode::data, what + " has no \"data\"");
  data_->seek(position["data"]);
  micro_batches_ = base::JsonFields(position, what).integer("micro_batches", 0, INT64_MAX / 2);
}

std::optional<double> DiffusionTask::evaluate() {
  set_training(false);
  if (options_.after_evaluation) options_.after_evaluation(micro_batches_ / options_.accumulation);
  if (options_.pairs.empty()) return std::nullopt;
  double sum = 0;
  std::int64_t rows = 0;
  for (const FixedPair& pair : options_.pairs) {
    base::throw_if_stopped();
    const at::Tensor latents = latents_of(*pair.batch);
    const at::Tensor values = losses(*pair.batch, latents, pair.noise.to(latents.device()), pair.timesteps);
    sum += values.sum().item<double>();
    rows += values.size(0);
  }
  return sum / static_cast<double>(rows);
}

void DiffusionTask::write_checkpoint(const std::string& folder) {
  if (options_.write_checkpoint) options_.write_checkpoint(folder);
}

}  // namespace atelier::train::image
