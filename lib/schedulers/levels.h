#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "schedulers/config.h"

namespace atelier::schedulers {

// How noise levels are laid out over a run. The reference computes these partly with torch in float32 and partly with numpy
// in float64; here the first are tensors, the second vectors of double.

/// Share of the signal after each training step: float32 (T), CPU.
at::Tensor alphas_cumprod(const Config& config);
/// The same as noise over signal, sqrt((1 - a) / a): float32 (T), CPU.
at::Tensor sigmas_of(const at::Tensor& alphas_cumprod);

std::vector<double> to_vector(const at::Tensor& tensor);                  ///< of a float tensor (N)
at::Tensor to_float64(const std::vector<double>& values);                 ///< (N), CPU
at::Tensor to_float32(const std::vector<double>& values);                 ///< (N), CPU
std::vector<double> linspace(double start, double stop, std::int64_t n);  ///< numpy.linspace

/// numpy's round: halves to even.
double round_even(double value);

/// Training timesteps of a run of n steps, descending, as the classes space them that end on timestep 0 themselves (leading: plus
/// steps_offset). Only `linspace` gives fractions. Error(usage) where leading leaves no room between them.
std::vector<double> spaced_timesteps(const Config& config, std::int64_t n);
/// As the DPM-Solver family spaces them: whole, n of n + 1 points, so that 0 is never one. `last` is the number of training
/// timesteps to use.
std::vector<double> solver_timesteps(const Config& config, std::int64_t n, std::int64_t last);

/// numpy.interp over 0, 1, 2, ...
std::vector<double> interpolate(const std::vector<double>& places, const std::vector<double>& table);

/// Where a sigma lies among those of training, as a fractional timestep.
class SigmaToTimestep {
 public:
  explicit SigmaToTimestep(const std::vector<double>& training_sigmas);
  double operator()(double sigma) const;
  std::vector<double> operator()(const std::vector<double>& sigmas) const;
  const std::vector<double>& log_sigmas() const { return log_sigmas_; }

 private:
  std::vector<double> log_sigmas_;  // rounded to float32
};

/// n sigmas from the first of `sigmas` to the last (or between the configuration's sigma_max and sigma_min), descending:
/// Karras et al. 2022 with rho 7, equal steps of the logarithm, or the quantiles of Beta(0.6, 0.6).
std::vector<double> convert_sigmas(const Config& config, const std::vector<double>& sigmas, std::int64_t n);

/// Quantile of the Beta(a, a) distribution, 0 <= p <= 1; to about 1e-14.
double beta_quantile(double p, double a);

}  // namespace atelier::schedulers
