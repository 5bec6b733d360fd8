#include "schedulers/alpha_scheduler.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <fmt/format.h>

#include "base/error.h"

namespace atelier::schedulers {

AlphaScheduler::AlphaScheduler(const Config& config)
    : config_(config),
      alphas_(alphas_cumprod(config)),
      final_(config.set_alpha_to_one ? at::ones({}, at::kFloat) : alphas_[0]) {}

at::Tensor AlphaScheduler::alpha(std::int64_t timestep) const {
  if (timestep < 0) return final_;
  return alphas_[std::min(timestep, alphas_.size(0) - 1)];
}

at::Tensor AlphaScheduler::add_noise(const at::Tensor& original, const at::Tensor& noise, std::size_t index) const {
  const at::Tensor a =
      alphas_.to(original.scalar_type())[std::clamp<std::int64_t>(timestep(index), 0, alphas_.size(0) - 1)];
  return a.pow(0.5) * original + (1 - a).pow(0.5) * noise;
}

AlphaScheduler::Estimate AlphaScheduler::estimate(const at::Tensor& model_output, const at::Tensor& sample,
                                                  const at::Tensor& alpha) const {
  const at::Tensor signal = alpha.pow(0.5), noise = (1 - alpha).pow(0.5);
  switch (config_.prediction) {
    case Prediction::sample: return {model_output, (sample - signal * model_output) / noise};
    case Prediction::v: return {signal * sample - noise * model_output, signal * model_output + noise * sample};
    default: return {(sample - noise * model_output) / signal, model_output};
  }
}

std::vector<double> AlphaScheduler::whole_timesteps(std::int64_t steps) const {
  std::vector<double> timesteps = spaced_timesteps(config_, steps);
  for (double& t : timesteps) t = round_even(t);
  // trailing counts down by a fraction, which for some numbers of steps (61, 103, ...) leaves one too many: -1. The reference
  // keeps it and ends with noise, because -1 is the noisiest timestep to it.
  std::erase_if(timesteps, [](double t) { return t < 0; });
  return timesteps;
}

void AlphaScheduler::check_steps(std::int64_t steps) const {
  if (steps <= config_.num_train_timesteps) return;
  throw base::Error(base::ExitCode::usage, fmt::format("{} steps: {} can make at most {}", steps,
                                                       class_name(config_.kind), config_.num_train_timesteps));
}

}  // namespace atelier::schedulers
