#include "schedulers/common.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/quantile.h>

namespace atelier::schedulers {

at::Tensor threshold_sample(const Config& config, const at::Tensor& sample) {
  const at::ScalarType dtype = sample.scalar_type();
  const bool wide = dtype == at::kFloat || dtype == at::kDouble;  // quantile() takes no others
  const at::Tensor flat = (wide ? sample : sample.to(at::kFloat)).reshape({sample.size(0), -1});  // (N, C*H*W)
  const at::Tensor limit = at::quantile(flat.abs(), config.dynamic_thresholding_ratio, 1)
                               .clamp(1, config.sample_max_value)
                               .unsqueeze(1);  // (N, 1)
  return (at::clamp(flat, -limit, limit) / limit).reshape(sample.sizes()).to(dtype);
}

at::Tensor limit_sample(const Config& config, const at::Tensor& sample) {
  if (config.thresholding) return threshold_sample(config, sample);
  if (config.clip_sample) return sample.clamp(-config.clip_sample_range, config.clip_sample_range);
  return sample;
}

SigmaScheduler::SigmaScheduler(const Config& config)
    : config_(config), training_sigmas_(sigmas_of(alphas_cumprod(config))), to_timestep_(to_vector(training_sigmas_)) {}

double SigmaScheduler::init_noise_sigma() const {
  const at::Tensor most = sigmas_.max();
  if (config_.spacing != Spacing::leading) return most.item<double>();
  return (most.pow(2) + 1).pow(0.5).item<double>();
}

at::Tensor SigmaScheduler::scale_model_input(const at::Tensor& sample, std::size_t index) const {
  return sample / (sigma(index).pow(2) + 1).pow(0.5);
}

at::Tensor SigmaScheduler::add_noise(const at::Tensor& original, const at::Tensor& noise, std::size_t index) const {
  return original + noise * sigma(index).to(original.scalar_type());
}

SigmaScheduler::Levels SigmaScheduler::levels(std::int64_t steps, bool float32_timesteps) const {
  Levels levels;
  levels.timesteps = spaced_timesteps(config_, steps);
  if (float32_timesteps) {
    for (double& t : levels.timesteps) t = static_cast<float>(t);
  }
  levels.sigmas = interpolate(levels.timesteps, to_vector(training_sigmas_));
  if (config_.conversion != Conversion::none) {
    levels.sigmas = convert_sigmas(config_, levels.sigmas, steps);
    levels.timesteps = to_timestep_(levels.sigmas);
  }
  return levels;
}

at::Tensor SigmaScheduler::denoise(const at::Tensor& model_output, const at::Tensor& sample,
                                   const at::Tensor& sigma) const {
  switch (config_.prediction) {
    case Prediction::sample: return model_output;
    case Prediction::v: return model_output * (-sigma / (sigma.pow(2) + 1).pow(0.5)) + sample / (sigma.pow(2) + 1);
    default: return sample - sigma * model_output;
  }
}

std::vector<double> doubled(const std::vector<double>& values) {
  std::vector<double> list;
  for (const double value : values) {
    list.push_back(value);
    if (list.size() > 1) list.push_back(value);
  }
  return list;
}

}  // namespace atelier::schedulers
