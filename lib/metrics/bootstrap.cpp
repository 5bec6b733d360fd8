#include "metrics/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include "base/seed.h"

namespace atelier::metrics {
namespace {

std::int64_t draw(base::Generator& generator, std::int64_t n) {
  return std::min<std::int64_t>(n - 1, static_cast<std::int64_t>(base::uniform(generator) * static_cast<double>(n)));
}

/// Linear interpolation between order statistics, as numpy.quantile.
double quantile(const std::vector<double>& sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Interval between(std::vector<double> estimates) {
  if (estimates.empty()) return std::nullopt;
  std::sort(estimates.begin(), estimates.end());
  return std::pair{quantile(estimates, 0.025), quantile(estimates, 0.975)};
}

/// Adds the mean of a resample to each of `estimates`.
void add_means(const at::Tensor& values, base::Generator& generator, std::vector<double>& estimates) {
  const at::Tensor here = values.to(at::kDouble).contiguous();
  const double* data = here.const_data_ptr<double>();
  const std::int64_t n = here.numel();
  for (double& estimate : estimates) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += data[draw(generator, n)];
    estimate += sum / static_cast<double>(n);
  }
}

bool enough(const at::Tensor& values) { return values.defined() && values.size(0) >= 2; }

}  // namespace

Interval bootstrap_mean(const at::Tensor& values, const BootstrapOptions& options) {
  if (!enough(values) || options.resamples <= 0) return std::nullopt;
  base::Generator generator(options.seed);
  std::vector<double> estimates(static_cast<std::size_t>(options.resamples), 0.0);
  add_means(values, generator, estimates);
  return between(std::move(estimates));
}

Interval bootstrap_influence(double value, const at::Tensor& real, const at::Tensor& fake,
                             const BootstrapOptions& options) {
  if ((!enough(real) && !enough(fake)) || options.resamples <= 0) return std::nullopt;
  base::Generator generator(options.seed);
  std::vector<double> estimates(static_cast<std::size_t>(options.resamples), value);
  if (enough(real)) add_means(real, generator, estimates);
  if (enough(fake)) add_means(fake, generator, estimates);
  return between(std::move(estimates));
}

Interval bootstrap_pairs(const at::Tensor& pairs, const BootstrapOptions& options) {
  if (!pairs.defined() || pairs.size(0) < 3 || options.resamples <= 0) return std::nullopt;
  const std::int64_t n = pairs.size(0);
  base::Generator generator(options.seed);
  at::Tensor counts = at::zeros({options.resamples, n}, at::kDouble);  // how often a resample has each picture
  double* data = counts.mutable_data_ptr<double>();
  for (std::int64_t r = 0; r < options.resamples; ++r)
    for (std::int64_t i = 0; i < n; ++i) data[r * n + draw(generator, n)] += 1;
  at::Tensor distances = pairs.to(at::kDouble).clone();
  distances.fill_diagonal_(std::nan(""));  // a picture is not compared with itself, drawn twice or not
  const at::Tensor known = distances.isfinite().to(at::kDouble);
  const auto weighted = [&](const at::Tensor& matrix) { return (at::matmul(counts, matrix) * counts).sum(1); };  // (R)
  const at::Tensor means = weighted(distances.nan_to_num(0)) / weighted(known);
  std::vector<double> estimates;
  for (std::int64_t r = 0; r < options.resamples; ++r)
    if (const double mean = means[r].item<double>(); std::isfinite(mean)) estimates.push_back(mean);
  return between(std::move(estimates));
}

}  // namespace atelier::metrics
