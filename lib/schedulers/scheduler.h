#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include "schedulers/noise.h"

namespace atelier::schedulers {

/// What a run may say beyond its number of steps; only flow schedulers look at it.
struct TimestepOptions {
  std::optional<double> mu;  ///< of dynamic shifting; Scheduler::shift_mu computes it from the number of image tokens
  std::vector<double>
      sigmas;  ///< given by the pipeline before shifting, e.g. FLUX's linspace(1, 1/n); empty: the scheduler's own
};

/// One sampler with its noise schedule: tensors in, tensors out; it never sees a model. What diffusers' scheduler of the same
/// configuration computes, operation by operation and in the same dtypes, so that pictures come out equal.
///
/// A run:
///
///     scheduler.set_timesteps(20);
///     std::size_t i = scheduler.start_index(strength);                  // 0 for txt2img
///     at::Tensor x = noise * scheduler.init_noise_sigma();              // or add_noise(latents, noise, i) for img2img
///     for (; i < scheduler.timesteps().size(); ++i) {
///       at::Tensor output = model(scheduler.scale_model_input(x, i), scheduler.timesteps()[i]);
///       x = scheduler.step(output, i, x, noise_source);
///     }
///
/// `index` is always a place in timesteps(). The first step() after set_timesteps() may have any index (img2img), the next
/// ones follow it one by one, because multistep samplers keep a history. Sigmas stay on the CPU; `sample` and
/// `model_output` may lie on any device, are of one shape (N, C, ...) and float32, float16 or bfloat16.
class Scheduler {
 public:
  virtual ~Scheduler() = default;
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Plans a run of `steps` steps and forgets the last one. Error(usage) where this sampler cannot make that many (more than
  /// the model was trained with, PNDM's Runge-Kutta start with fewer than 4, LCM with more than its original steps).
  void set_timesteps(std::int64_t steps, const TimestepOptions& options = {});

  /// What the model is told at each evaluation, in order: one entry per model evaluation, so Heun, DPM2 and DPM++ SDE have
  /// 2n - 1 of them and PNDM n + 1 (n + 9 with its Runge-Kutta start). Fractional for some; a model takes them as float32.
  const std::vector<double>& timesteps() const { return timesteps_; }
  /// Number of model evaluations of a whole run.
  std::size_t evaluations() const { return timesteps_.size(); }
  /// As asked for in set_timesteps().
  std::int64_t steps() const { return steps_; }
  /// Entries of timesteps() that img2img skips for each skipped step: diffusers' `order`, 2 for Heun, DPM2 and DPM++ SDE.
  virtual std::int64_t order() const { return 1; }
  /// Where img2img with this strength (0 to 1) starts: diffusers' get_timesteps, (n - min(int(n * strength), n)) * order.
  /// Equals evaluations() where no step is left (strength below 1/n).
  std::size_t start_index(double strength) const;

  /// What standard normal noise is multiplied by to become the first sample.
  virtual double init_noise_sigma() const { return 1; }
  /// The sample as the model wants to see it.
  virtual at::Tensor scale_model_input(const at::Tensor& sample, std::size_t index) const;
  /// One model evaluation further: the next sample, in the dtype that diffusers gives it (the model output's). Stochastic
  /// samplers draw from `noise`, others never do.
  at::Tensor step(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample, NoiseSource& noise);
  /// `original` with as much of `noise` as a sample at `index` has: img2img's start, and what inpainting puts back outside
  /// the mask after step index - 1.
  virtual at::Tensor add_noise(const at::Tensor& original, const at::Tensor& noise, std::size_t index) const = 0;

  /// The last step's estimate of the finished latents, for previews; undefined before the first step.
  const at::Tensor& denoised() const { return denoised_; }

  /// Whether step() draws noise (DDIM and TCD: with their eta).
  virtual bool stochastic() const { return false; }
  /// mu for an image of so many tokens (FLUX, SD3: latent pixels / 4), as diffusers' calculate_shift with this
  /// configuration; nothing where the configuration has no dynamic shifting.
  virtual std::optional<double> shift_mu(std::int64_t image_tokens) const;

 protected:
  Scheduler() = default;

  /// Fills timesteps_ and forgets the last run.
  virtual void plan(std::int64_t steps, const TimestepOptions& options) = 0;
  /// step() after its checks; sets denoised_.
  virtual at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                             NoiseSource& noise) = 0;

  std::vector<double> timesteps_;
  std::int64_t steps_ = 0;
  at::Tensor denoised_;

 private:
  std::optional<std::size_t> next_;  // the index that must come now; nothing: any
};

}  // namespace atelier::schedulers
