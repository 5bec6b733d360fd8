#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include <ATen/core/Tensor.h>

namespace atelier::metrics {

using Interval = std::optional<std::pair<double, double>>;

/// The same options give the same interval.
struct BootstrapOptions {
  std::int64_t resamples = 1000;  ///< 0: no interval
  std::uint64_t seed = 0;
};

/// 2.5 and 97.5 % of the means of resampled values, f64 (N). Nothing for N below 2 or without resamples.
Interval bootstrap_mean(const at::Tensor& values, const BootstrapOptions& options = {});

/// The interval of an estimate whose two sides have these influences (either may be undefined: that side is taken as exact):
/// `value` and what resampled influences add to it. The bootstrap of the statistic itself would be biased: a resample holds fewer
/// different pictures, and both distances grow with fewer pictures.
Interval bootstrap_influence(double value, const at::Tensor& real, const at::Tensor& fake,
                             const BootstrapOptions& options = {});

/// The interval of the mean over pairs of N different pictures, which are what is resampled: `pairs` is f64 (N, N), symmetric, NaN
/// where a pair was not compared.
Interval bootstrap_pairs(const at::Tensor& pairs, const BootstrapOptions& options = {});

}  // namespace atelier::metrics
