#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace atelier::metrics {

/// Mean and covariance of N features of dimension D, on the CPU.
struct FeatureStatistics {
  at::Tensor mean;        ///< f64 (D)
  at::Tensor covariance;  ///< f64 (D, D), unbiased (divided by N - 1), as numpy.cov
  std::int64_t count = 0;
};

/// Of features (N, D), N at least 2: Error(data) otherwise, and where one is not finite.
FeatureStatistics feature_statistics(const at::Tensor& features);

/// |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), never below 0 by more than rounding. The trace of the root is the sum of the
/// square roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric: nothing is added to a singular covariance, and nothing
/// can become complex. Error(data) where the dimensions differ.
/// Reference: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (arXiv:1706.08500).
double frechet_distance(const FeatureStatistics& real, const FeatureStatistics& fake);

/// How much each feature pulls the Fréchet distance: the first-order change (the influence function) for each row of
/// `features`, f64 (N), mean 0. `of` are the features' own statistics, `other` those of the other side.
at::Tensor frechet_influence(const at::Tensor& features, const FeatureStatistics& of, const FeatureStatistics& other);

struct Kid {
  double mean = 0, deviation = 0;  ///< over the subsets; the deviation is the population's (numpy.std)
};

struct KidOptions {
  std::int64_t subsets = 100, subset_size = 1000;
  std::uint32_t seed = 2020;  ///< torch-fidelity's; the subsets are those that numpy's RandomState draws
};

/// Kernel Inception distance: the unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, averaged over
/// random subsets, as torch-fidelity computes it. real: (N, D), fake: (M, D). Error(data) where the dimensions differ or a side has fewer
/// features than a subset, or a subset fewer than 2.
/// Reference: Demystifying MMD GANs (arXiv:1801.01401).
Kid kernel_distance(const at::Tensor& real, const at::Tensor& fake, const KidOptions& options = {});

/// The influence of each feature of either side on the squared maximum mean discrepancy, f64 (N) and (M), each of mean 0.
std::pair<at::Tensor, at::Tensor> kernel_influence(const at::Tensor& real, const at::Tensor& fake);

struct BootstrapOptions {
  std::int64_t resamples = 1000;  ///< 0: no interval
  std::uint64_t seed = 0;
};

/// 2.5 and 97.5 % of the means of resampled values, f64 (N). Nothing for N below 2 or without resamples.
std::optional<std::pair<double, double>> bootstrap_mean(const at::Tensor& values, const BootstrapOptions& options = {});

/// The interval of an estimate whose two sides have these influences (either may be undefined: that side is taken as exact):
/// `value` and what resampled influences add to it. The bootstrap of the statistic itself would be biased: a resample holds fewer
/// different pictures, and both distances grow with fewer pictures.
std::optional<std::pair<double, double>> bootstrap_influence(double value, const at::Tensor& real, const at::Tensor& fake,
                                                             const BootstrapOptions& options = {});

/// The interval of the mean of all pairs of N different pictures: `pairs` is f64 (N, N), symmetric, NaN where a pair was not compared.
std::optional<std::pair<double, double>> bootstrap_pairs(const at::Tensor& pairs, const BootstrapOptions& options = {});

}  // namespace atelier::metrics
