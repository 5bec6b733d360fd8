#pragma once

#include <cstdint>
#include <utility>

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

/// |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). The trace of the root is the sum of the square roots of the eigenvalues of
/// S1^(1/2) S2 S1^(1/2), which is symmetric: nothing has to be added to a singular covariance, and nothing can become complex.
/// Error(data) where the dimensions differ.
/// Reference: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (arXiv:1706.08500).
double frechet_distance(const FeatureStatistics& real, const FeatureStatistics& fake);

/// A Fréchet distance with what each feature adds to it: its first-order change with the feature's weight (the influence
/// function, of mean 0), f64 (N) and (M).
struct Frechet {
  double distance = 0;
  at::Tensor real_influence, fake_influence;  ///< undefined where a side's features are not known
};

/// Features (N, D) and (M, D) with their statistics; a side may have statistics alone (undefined features). Where there are fewer
/// features than dimensions all of it happens in the space that they span.
Frechet frechet(const at::Tensor& real, const FeatureStatistics& real_statistics, const at::Tensor& fake,
                const FeatureStatistics& fake_statistics);

struct Kid {
  double mean = 0, deviation = 0;  ///< over the subsets; the deviation is the population's (numpy.std)
};

struct KidOptions {
  std::int64_t subsets = 100, subset_size = 1000;
  std::uint32_t seed = 2020;  ///< torch-fidelity's; the subsets are those that numpy's RandomState draws
};

/// Kernel Inception distance: the unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3,
/// averaged over random subsets, as torch-fidelity computes it, in f64. real: (N, D), fake: (M, D). Error(data) where the dimensions
/// differ or a side has fewer features than a subset, or a subset fewer than 2.
/// Reference: Demystifying MMD GANs (arXiv:1801.01401).
Kid kernel_distance(const at::Tensor& real, const at::Tensor& fake, const KidOptions& options = {});

/// The influence of each feature of either side on the squared maximum mean discrepancy, f64 (N) and (M), each of mean 0. The
/// kernel's means are taken over at most 2,048 features of a side, evenly spaced.
std::pair<at::Tensor, at::Tensor> kernel_influence(const at::Tensor& real, const at::Tensor& fake);

}  // namespace atelier::metrics
