#include "metrics/quantiles.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace atelier::metrics {

double quantile(std::vector<double> values, double p) {
  if (values.empty()) throw base::Error(base::ExitCode::internal, "a quantile of no values");
  std::ranges::sort(values);
  const double at = p * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(std::floor(at));
  const std::size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (values[high] - values[low]) * (at - static_cast<double>(low));
}

Spread spread(const std::vector<double>& values) {
  if (values.empty()) return {};
  return {quantile(values, 0.5), quantile(values, 0.95), values.size()};
}

std::vector<std::size_t> resample(std::size_t n, base::Generator& generator) {
  std::vector<std::size_t> sample(n);
  // The bias of the remainder is below n / 2^64.
  for (std::size_t& index : sample) index = static_cast<std::size_t>(generator() % n);
  return sample;
}

}  // namespace atelier::metrics
