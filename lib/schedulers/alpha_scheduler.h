#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "schedulers/common.h"

namespace atelier::schedulers {

/// Samplers over whole training timesteps whose sample is sqrt(a) * signal + sqrt(1 - a) * noise.
class AlphaScheduler : public Scheduler {
 public:
  explicit AlphaScheduler(const Config& config);
  at::Tensor add_noise(const at::Tensor& original, const at::Tensor& noise, std::size_t index) const override;

 protected:
  /// What an output of the model means: the finished sample and the noise in it.
  struct Estimate {
    at::Tensor original, noise;
  };

  std::int64_t timestep(std::size_t index) const { return static_cast<std::int64_t>(timesteps_[index]); }
  /// Share of the signal at a training timestep. Before the first one: that of a clean picture, final_.
  at::Tensor alpha(std::int64_t timestep) const;
  Estimate estimate(const at::Tensor& model_output, const at::Tensor& sample, const at::Tensor& alpha) const;
  /// Error(usage) where `steps` are more than the model was trained with.
  void check_steps(std::int64_t steps) const;
  /// Spaced as the configuration says; here linspace is rounded too.
  std::vector<double> whole_timesteps(std::int64_t steps) const;

  Config config_;
  at::Tensor alphas_;  // float32 (T)
  at::Tensor final_;   // after the last step
};

}  // namespace atelier::schedulers
