#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/seed.h"

namespace atelier::metrics {

/// The quantile p (0 to 1) of values that need not be sorted, linear between neighbours: numpy.quantile. Error(internal) for
/// no values.
double quantile(std::vector<double> values, double p);

/// What tables say of a time that was taken several times. Seconds, or whatever the values are.
struct Spread {
  double median = 0, p95 = 0;
  std::size_t n = 0;  ///< 0: nothing was measured, and the others mean nothing
};
Spread spread(const std::vector<double>& values);

/// n indices below n, drawn with replacement: a sample of the bootstrap.
std::vector<std::size_t> resample(std::size_t n, base::Generator& generator);

}  // namespace atelier::metrics
