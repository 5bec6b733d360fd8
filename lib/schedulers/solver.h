#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "schedulers/common.h"

namespace atelier::schedulers {

/// The DPM-Solver family: samplers over lambda = log(signal / noise) with a history of the model's estimates. Samples are
/// signal * x0 + noise with unit variance (or a flow model's straight line between the two).
class Solver : public Scheduler {
 public:
  explicit Solver(const Config& config);
  at::Tensor add_noise(const at::Tensor& original, const at::Tensor& noise, std::size_t index) const override;
  std::optional<double> shift_mu(std::int64_t image_tokens) const override;

 protected:
  /// One noise level: shares of signal and of noise, and the logarithm of their ratio.
  struct Level {
    at::Tensor alpha, sigma, lambda;
  };

  void plan(std::int64_t steps, const TimestepOptions& options) override;
  /// Of a step's beginning; at timesteps().size() that of the run's end.
  Level level(std::size_t index) const;
  /// Whether this is the last or last but one step of a run that is so short that high orders would harm.
  bool short_run() const { return config_.lower_order_final && timesteps_.size() < 15; }
  /// The finished sample that a model output means.
  at::Tensor original(const at::Tensor& model_output, const at::Tensor& sample, std::size_t index) const;
  /// Keeps as many outputs as the solver's order, the newest first.
  void remember(const at::Tensor& output);

  Config config_;
  std::vector<at::Tensor> outputs_;
  std::int64_t warm_ = 0;  // steps made, up to the order

 private:
  struct Run {
    std::vector<double> timesteps, sigmas;
  };
  std::vector<double> spaced(std::int64_t steps) const;
  Run converted(std::int64_t steps) const;
  Run flow(std::int64_t steps, const TimestepOptions& options) const;
  double last_sigma(const Run& run) const;

  at::Tensor training_sigmas_;  // float32 (T)
  SigmaToTimestep to_timestep_;
  std::int64_t last_timestep_;  // training timesteps in use: below T where lambda_min_clipped cuts the noisiest off
  at::Tensor sigmas_;           // float32; noise over signal, or a flow model's share of noise
};

}  // namespace atelier::schedulers
