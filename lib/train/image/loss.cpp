#include "train/image/loss.h"

#include <cmath>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include "base/error.h"
#include "schedulers/levels.h"

namespace atelier::train::image {
namespace {

using base::Error;
using base::ExitCode;

at::Tensor huber_corners(const LossOptions& options, const at::Tensor& alphas) {
  const double c = options.huber_c;
  switch (options.huber_schedule) {
    case HuberSchedule::constant: break;
    case HuberSchedule::exponential: {
      const auto steps = static_cast<double>(alphas.size(0));
      return at::exp(at::arange(alphas.size(0), alphas.options()) * (std::log(c) / steps));
    }
    case HuberSchedule::snr: {
      const auto sigmas = ((1 - alphas) / alphas).sqrt();
      return (1 - c) / (1 + sigmas).square() + c;
    }
  }
  return at::full_like(alphas, c);
}

}  // namespace

LossKind loss_kind(std::string_view name) {
  if (name == "l2") return LossKind::squared;
  if (name == "huber") return LossKind::huber;
  throw Error(ExitCode::usage, "unknown loss \"" + std::string(name) + "\"", "one of l2, huber");
}

HuberSchedule huber_schedule(std::string_view name) {
  if (name == "constant") return HuberSchedule::constant;
  if (name == "exponential") return HuberSchedule::exponential;
  if (name == "snr") return HuberSchedule::snr;
  throw Error(ExitCode::usage, "unknown schedule \"" + std::string(name) + "\"", "one of constant, exponential, snr");
}

Diffusion::Diffusion(schedulers::Config config, const LossOptions& options) : options_(options) {
  using schedulers::Prediction;
  if (config.prediction != Prediction::epsilon && config.prediction != Prediction::v)
    throw Error(ExitCode::data, "training knows models that predict noise (epsilon) or velocity (v_prediction) only");
  velocity_ = config.prediction == Prediction::v;
  config.rescale_betas_zero_snr = config.rescale_betas_zero_snr || options.zero_terminal_snr;
  if (config.rescale_betas_zero_snr && !velocity_)
    throw Error(ExitCode::usage, "a zero terminal SNR needs a model with v-prediction",
                "from a picture without signal its noise cannot be told apart");
  alphas_ = schedulers::alphas_cumprod(config);
  snr_ = alphas_ / (1 - alphas_);
  if (options.kind == LossKind::huber) corners_ = huber_corners(options, alphas_);
}

at::Tensor Diffusion::draw_noise(const at::Tensor& latents) const {
  auto noise = at::randn(latents.sizes(), at::kFloat);
  if (options_.noise_offset > 0)
    noise = noise + options_.noise_offset * at::randn({latents.size(0), latents.size(1), 1, 1}, at::kFloat);
  return noise.to(latents.device());
}

at::Tensor Diffusion::draw_timesteps(std::int64_t rows) const { return at::randint(0, timesteps(), {rows}, at::kLong); }

at::Tensor Diffusion::at_timesteps(const at::Tensor& values, const at::Tensor& timesteps, const at::Tensor& like) const {
  return values.index_select(0, timesteps.to(at::kCPU)).to(like.device()).view({-1, 1, 1, 1});
}

at::Tensor Diffusion::add_noise(const at::Tensor& x, const at::Tensor& noise, const at::Tensor& timesteps) const {
  return at_timesteps(alphas_.sqrt(), timesteps, x) * x + at_timesteps((1 - alphas_).sqrt(), timesteps, x) * noise;
}

at::Tensor Diffusion::target(const at::Tensor& x, const at::Tensor& noise, const at::Tensor& timesteps) const {
  if (!velocity_) return noise;
  return at_timesteps(alphas_.sqrt(), timesteps, x) * noise - at_timesteps((1 - alphas_).sqrt(), timesteps, x) * x;
}

at::Tensor Diffusion::elements(const at::Tensor& prediction, const at::Tensor& target,
                               const at::Tensor& timesteps) const {
  const auto squares = (prediction - target).square();
  if (options_.kind == LossKind::squared) return squares;
  // The pseudo-Huber loss, scaled so that it begins as the squared one does.
  const auto c = at_timesteps(corners_, timesteps, target);
  return 2 * c * ((squares + c.square()).sqrt() - c);
}

at::Tensor Diffusion::losses(const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& timesteps,
                             const at::Tensor& mask) const {
  auto loss = elements(prediction, target, timesteps);  // (B, C, h, w)
  if (mask.defined()) loss = loss * mask;
  loss = loss.mean({1, 2, 3});  // (B)
  if (options_.min_snr_gamma <= 0) return loss;
  const auto snr = snr_.index_select(0, timesteps.to(at::kCPU));
  const auto weights = snr.clamp_max(options_.min_snr_gamma) / (velocity_ ? snr + 1 : snr);
  return loss * weights.to(loss.device());
}

}  // namespace atelier::train::image
