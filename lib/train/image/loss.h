#pragma once

#include <cstdint>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "schedulers/config.h"

namespace atelier::train::image {

enum class LossKind { squared, huber };
/// How the Huber loss's corner moves with the timestep (Khrapov and others 2024, arXiv:2403.16728).
enum class HuberSchedule { constant, exponential, snr };

/// "l2", "huber"; "constant", "exponential", "snr"; Error(usage) otherwise.
LossKind loss_kind(std::string_view name);
HuberSchedule huber_schedule(std::string_view name);

struct LossOptions {
  double min_snr_gamma = 0;  ///< losses are weighted by min(SNR, gamma) / SNR, with v-prediction by min(SNR, gamma) / (SNR + 1)
                             ///< (Hang and others 2023, arXiv:2303.09556); 0: they are not
  double noise_offset = 0;   ///< standard deviation of a number that is added to a whole channel's noise
  bool zero_terminal_snr = false;  ///< betas rescaled so that the last step has no signal left (Lin and others 2024)
  LossKind kind = LossKind::squared;
  double huber_c = 0.1;  ///< where the Huber loss turns from a square to a line
  HuberSchedule huber_schedule = HuberSchedule::snr;
};

/// How pictures are noised in training and what the network is to find in them: diffusers' DDPMScheduler with its training
/// scripts' losses. Tensors in f32.
class Diffusion {
 public:
  /// Error(data): a prediction type other than epsilon and v. Error(usage): a zero terminal SNR with epsilon, from which a
  /// picture without signal cannot be told.
  Diffusion(schedulers::Config config, const LossOptions& options);

  std::int64_t timesteps() const { return alphas_.size(0); }

  /// What latents like these are noised with, drawn on the CPU from LibTorch's default generator in diffusers' order: standard
  /// normal numbers, then the offsets. (B, C, h, w)
  at::Tensor draw_noise(const at::Tensor& latents) const;
  /// One timestep a row, uniform. (B) int64
  at::Tensor draw_timesteps(std::int64_t rows) const;

  /// sqrt(a) x + sqrt(1 - a) noise, a at each row's timestep.
  at::Tensor add_noise(const at::Tensor& x, const at::Tensor& noise, const at::Tensor& timesteps) const;
  /// The noise, or the velocity sqrt(a) noise - sqrt(1 - a) x.
  at::Tensor target(const at::Tensor& x, const at::Tensor& noise, const at::Tensor& timesteps) const;
  /// Mean loss of each row over its elements, (B). `mask`: (B, 1, h, w), what an element's loss is multiplied by; or undefined.
  at::Tensor losses(const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& timesteps,
                    const at::Tensor& mask) const;

 private:
  at::Tensor at_timesteps(const at::Tensor& values, const at::Tensor& timesteps, const at::Tensor& like) const;
  at::Tensor elements(const at::Tensor& prediction, const at::Tensor& target, const at::Tensor& timesteps) const;

  LossOptions options_;
  bool velocity_ = false;
  at::Tensor alphas_;    ///< (T): share of the signal
  at::Tensor snr_;       ///< (T): alpha / (1 - alpha)
  at::Tensor corners_;   ///< (T): Huber's c
};

}  // namespace atelier::train::image
