#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include "schedulers/config.h"
#include "schedulers/levels.h"
#include "schedulers/scheduler.h"

namespace atelier::schedulers {

// What several samplers share. Coefficients are tensors without dimensions, so that float32 and float16 arithmetic, and what
// results from mixing them with a sample, are the reference's.

/// Imagen's dynamic thresholding (Saharia et al. 2022): each picture is clamped to a quantile of its own values and scaled
/// down by it.
at::Tensor threshold_sample(const Config& config, const at::Tensor& sample);
/// Thresholding, else clipping, else nothing: as the configuration says.
at::Tensor limit_sample(const Config& config, const at::Tensor& sample);

/// Samplers over sigma = noise / signal whose sample is signal + sigma * noise (Karras et al. 2022).
class SigmaScheduler : public Scheduler {
 public:
  explicit SigmaScheduler(const Config& config);

  double init_noise_sigma() const override;
  at::Tensor scale_model_input(const at::Tensor& sample, std::size_t index) const override;
  at::Tensor add_noise(const at::Tensor& original, const at::Tensor& noise, std::size_t index) const override;

 protected:
  /// Timesteps and the sigmas that belong to them, without the end.
  struct Levels {
    std::vector<double> timesteps, sigmas;
  };
  /// Spaced and converted as the configuration says. `float32_timesteps`: the class rounds its spaced timesteps.
  Levels levels(std::int64_t steps, bool float32_timesteps = true) const;
  at::Tensor sigma(std::size_t index) const { return sigmas_[static_cast<std::int64_t>(index)]; }
  /// What the model believes the finished sample to be, from its output at `sigma`.
  at::Tensor denoise(const at::Tensor& model_output, const at::Tensor& sample, const at::Tensor& sigma) const;

  Config config_;
  at::Tensor training_sigmas_;  // float32 (T)
  SigmaToTimestep to_timestep_;
  at::Tensor sigmas_;  // float32; one for each timestep, then the last
};

/// The first value, the others twice each: how samplers with two evaluations per step lay out their lists.
std::vector<double> doubled(const std::vector<double>& values);

}  // namespace atelier::schedulers
