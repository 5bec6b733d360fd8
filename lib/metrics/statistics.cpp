#include "metrics/statistics.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"
#include "metrics/numpy_random.h"

namespace atelier::metrics {
namespace {

using base::Error;
using base::ExitCode;

constexpr std::int64_t kRows = 4096;  // that are converted to f64 at a time

at::Tensor exact(const at::Tensor& rows) { return rows.to(at::kCPU, at::kDouble); }

/// f(rows in f64, first) for runs of rows.
template <class F>
void by_run(const at::Tensor& rows, const F& f) {
  for (std::int64_t i = 0; i < rows.size(0); i += kRows) {
    base::throw_if_stopped();
    f(exact(rows.narrow(0, i, std::min(kRows, rows.size(0) - i))), i);
  }
}

/// The eigenvalues (not below 0) and eigenvectors of a positive semidefinite matrix.
struct Spectrum {
  at::Tensor values, vectors;

  explicit Spectrum(const at::Tensor& matrix) {
    std::tie(values, vectors) = at::linalg_eigh(matrix);
    values = values.clamp_min(0);
  }
  /// vectors values^power, (D, D); of a negative power the pseudo-inverse's: what is 0 but for rounding stays 0.
  at::Tensor scaled(double power) const {
    if (power >= 0) return vectors * values.pow(power);
    const at::Tensor kept = values > 1e-12 * values.max();
    return vectors * values.clamp_min(1e-300).pow(power).mul(kept);
  }
  at::Tensor power(double exponent) const { return at::matmul(scaled(exponent), vectors.t()); }
};

at::Tensor symmetric(const at::Tensor& matrix) { return (matrix + matrix.t()) / 2; }

void check_same_dimension(std::int64_t real, std::int64_t fake) {
  if (real != fake)
    throw Error(ExitCode::data, fmt::format("features of {} and of {} numbers cannot be compared", real, fake));
}

double means_and_traces(const FeatureStatistics& real, const FeatureStatistics& fake) {
  const at::Tensor difference = real.mean - fake.mean;
  return (difference * difference).sum().item<double>() + real.covariance.trace().item<double>() +
         fake.covariance.trace().item<double>();
}

/// 2 d.(x - mean) + |x - mean|^2 - |(x - mean) map|^2 for each row x, less its average.
at::Tensor influence(const at::Tensor& features, const at::Tensor& mean, const at::Tensor& direction,
                     const at::Tensor& map) {
  at::Tensor result = at::zeros({features.size(0)}, at::kDouble);
  by_run(features, [&](const at::Tensor& rows, std::int64_t first) {
    const at::Tensor centred = rows - mean, mapped = at::matmul(centred, map);
    result.narrow(0, first, rows.size(0))
        .copy_(2 * at::matmul(centred, direction) + (centred * centred).sum(1) - (mapped * mapped).sum(1));
  });
  return result - result.mean();
}

/// Both sides in an orthonormal basis of the space that they span, (D, N + M + 1) or less.
Frechet in_common_space(const at::Tensor& real, const FeatureStatistics& real_statistics, const at::Tensor& fake,
                        const FeatureStatistics& fake_statistics) {
  const at::Tensor a = exact(real) - real_statistics.mean, b = exact(fake) - real_statistics.mean;
  const at::Tensor basis = std::get<0>(at::linalg_qr(at::cat({a, b}, 0).t(), "reduced"));  // (D, N + M)
  const at::Tensor x = at::matmul(a, basis), y = at::matmul(b, basis);
  return frechet(x, feature_statistics(x), y, feature_statistics(y));
}

/// (x.y / D + 1)^3 of all pairs of rows.
at::Tensor kernel(const at::Tensor& x, const at::Tensor& y) {
  return at::matmul(x, y.t()).div_(static_cast<double>(x.size(1))).add_(1.0).pow(3);
}

/// For each subset, a row of `a` and `b` (R, N) and (R, M) of zeros and ones, the sum of the kernel over its pairs; a feature
/// is not paired with itself where both sides are the same (`within`). (R)
at::Tensor subset_sums(const at::Tensor& x, const at::Tensor& a, const at::Tensor& y, const at::Tensor& b,
                       bool within) {
  at::Tensor sums = at::zeros({b.size(0), b.size(1)}, at::kDouble);
  const at::Tensor others = exact(y);
  constexpr std::int64_t rows = 1024;
  for (std::int64_t i = 0; i < x.size(0); i += rows) {
    base::throw_if_stopped();
    const std::int64_t n = std::min(rows, x.size(0) - i);
    at::Tensor k = kernel(exact(x.narrow(0, i, n)), others);  // (n, M)
    if (within) k.narrow(1, i, n).fill_diagonal_(0);
    sums += at::matmul(a.narrow(1, i, n), k);
  }
  return (sums * b).sum(1);
}

struct Subsets {
  std::vector<std::vector<std::int64_t>> real, fake;
};

at::Tensor indicators(const std::vector<std::vector<std::int64_t>>& subsets, std::int64_t n) {
  at::Tensor result = at::zeros({static_cast<std::int64_t>(subsets.size()), n}, at::kDouble);
  double* data = result.mutable_data_ptr<double>();
  for (std::size_t r = 0; r < subsets.size(); ++r)
    for (const std::int64_t i : subsets[r]) data[static_cast<std::int64_t>(r) * n + i] = 1;
  return result;
}

at::Tensor discrepancy(const at::Tensor& within_real, const at::Tensor& within_fake, const at::Tensor& between,
                       double m) {
  return (within_real + within_fake) / (m * (m - 1)) - 2 * between / (m * m);
}

/// The squared discrepancy of each subset, (R): one pass over all pairs, or where there are too many over each subset's.
at::Tensor discrepancies(const at::Tensor& real, const at::Tensor& fake, const Subsets& subsets, std::int64_t size) {
  const auto m = static_cast<double>(size);
  constexpr std::int64_t most = 8192;  // above, 100 subsets of 1,000 are less work than all pairs
  if (real.size(0) <= most && fake.size(0) <= most) {
    const at::Tensor a = indicators(subsets.real, real.size(0)), b = indicators(subsets.fake, fake.size(0));
    return discrepancy(subset_sums(real, a, real, a, true), subset_sums(fake, b, fake, b, true),
                       subset_sums(real, a, fake, b, false), m);
  }
  at::Tensor result = at::zeros({static_cast<std::int64_t>(subsets.real.size())}, at::kDouble);
  const auto chosen = [&](const at::Tensor& rows, std::vector<std::int64_t>& indices) {
    return exact(rows.index_select(0, at::tensor(indices)));
  };
  for (std::size_t r = 0; r < subsets.real.size(); ++r) {
    base::throw_if_stopped();
    auto i = subsets.real[r], j = subsets.fake[r];
    const at::Tensor x = chosen(real, i), y = chosen(fake, j);
    result[static_cast<std::int64_t>(r)] =
        discrepancy(kernel(x, x).fill_diagonal_(0).sum(), kernel(y, y).fill_diagonal_(0).sum(), kernel(x, y).sum(), m);
  }
  return result;
}

/// The kernel's mean over the rows of `y`, for each row of `x`; `same`: without itself.
at::Tensor kernel_means(const at::Tensor& x, const at::Tensor& y, bool same) {
  constexpr std::int64_t columns = 2048;
  const std::int64_t step = (y.size(0) + columns - 1) / columns;
  const at::Tensor others = exact(y.slice(0, 0, std::nullopt, step));
  const bool skip = same && step == 1;
  at::Tensor result = at::zeros({x.size(0)}, at::kDouble);
  by_run(x, [&](const at::Tensor& rows, std::int64_t first) {
    at::Tensor k = kernel(rows, others);
    if (skip) k.narrow(1, first, rows.size(0)).fill_diagonal_(0);
    result.narrow(0, first, rows.size(0)).copy_(k.sum(1) / static_cast<double>(others.size(0) - (skip ? 1 : 0)));
  });
  return result;
}

}  // namespace

FeatureStatistics feature_statistics(const at::Tensor& features) {
  const at::NoGradGuard no_grad;
  if (features.dim() != 2 || features.size(0) < 2)
    throw Error(ExitCode::data, fmt::format("{} pictures are too few for a covariance; at least 2 are wanted",
                                            features.dim() == 2 ? features.size(0) : 0));
  const std::int64_t n = features.size(0), d = features.size(1);
  FeatureStatistics result{at::zeros({d}, at::kDouble), at::zeros({d, d}, at::kDouble), n};
  by_run(features, [&](const at::Tensor& rows, std::int64_t) { result.mean += rows.sum(0); });
  result.mean /= static_cast<double>(n);
  if (!result.mean.isfinite().all().item<bool>())
    throw Error(ExitCode::data, "a picture's features are not finite: the network's weights are damaged");
  by_run(features, [&](const at::Tensor& rows, std::int64_t) {
    const at::Tensor centred = rows - result.mean;
    result.covariance.addmm_(centred.t(), centred);
  });
  result.covariance /= static_cast<double>(n - 1);
  return result;
}

double frechet_distance(const FeatureStatistics& real, const FeatureStatistics& fake) {
  const at::NoGradGuard no_grad;
  check_same_dimension(real.mean.numel(), fake.mean.numel());
  const at::Tensor root = Spectrum(real.covariance).power(0.5);
  const at::Tensor product = symmetric(at::matmul(at::matmul(root, fake.covariance), root));
  return means_and_traces(real, fake) - 2 * at::linalg_eigvalsh(product).clamp_min(0).sqrt().sum().item<double>();
}

Frechet frechet(const at::Tensor& real, const FeatureStatistics& real_statistics, const at::Tensor& fake,
                const FeatureStatistics& fake_statistics) {
  const at::NoGradGuard no_grad;
  const std::int64_t d = real_statistics.mean.numel();
  check_same_dimension(d, fake_statistics.mean.numel());
  if (real.defined() && fake.defined() && real.size(0) + fake.size(0) < d)
    return in_common_space(real, real_statistics, fake, fake_statistics);
  const Spectrum own(real_statistics.covariance);
  const at::Tensor root = own.power(0.5);
  const Spectrum product(symmetric(at::matmul(at::matmul(root, fake_statistics.covariance), root)));
  Frechet result;
  result.distance = means_and_traces(real_statistics, fake_statistics) - 2 * product.values.sqrt().sum().item<double>();
  const at::Tensor direction = real_statistics.mean - fake_statistics.mean;
  // The derivative of tr M^(1/2), M = S1^(1/2) S2 S1^(1/2), by S1 is S1^(-1/2) M^(1/2) S1^(-1/2) / 2, by S2 S1^(1/2) M^(-1/2)
  // S1^(1/2) / 2: squares of these maps.
  if (real.defined())
    result.real_influence =
        influence(real, real_statistics.mean, direction, at::matmul(own.power(-0.5), product.scaled(0.25)));
  if (fake.defined())
    result.fake_influence = influence(fake, fake_statistics.mean, -direction, at::matmul(root, product.scaled(-0.25)));
  return result;
}

Kid kernel_distance(const at::Tensor& real, const at::Tensor& fake, const KidOptions& options) {
  const at::NoGradGuard no_grad;
  check_same_dimension(real.size(1), fake.size(1));
  const std::int64_t size = options.subset_size;
  if (size < 2)
    throw Error(ExitCode::data, fmt::format("subsets of {} are too small for KID; at least 2 are wanted", size));
  if (real.size(0) < size || fake.size(0) < size)
    throw Error(ExitCode::data, fmt::format("{} and {} pictures are too few for KID's subsets of {}", real.size(0),
                                            fake.size(0), size));
  NumpyRandomState random(options.seed);
  Subsets subsets;
  for (std::int64_t i = 0; i < options.subsets; ++i) {
    subsets.real.push_back(random.choice(real.size(0), size));
    subsets.fake.push_back(random.choice(fake.size(0), size));
  }
  const at::Tensor all = discrepancies(real, fake, subsets, size);
  return {all.mean().item<double>(), all.std(/*unbiased=*/false).item<double>()};
}

std::pair<at::Tensor, at::Tensor> kernel_influence(const at::Tensor& real, const at::Tensor& fake) {
  const at::NoGradGuard no_grad;
  check_same_dimension(real.size(1), fake.size(1));
  const auto side = [](const at::Tensor& own, const at::Tensor& other) {
    const at::Tensor influence = 2 * (kernel_means(own, own, true) - kernel_means(own, other, false));
    return influence - influence.mean();
  };
  return {side(real, fake), side(fake, real)};
}

}  // namespace atelier::metrics
