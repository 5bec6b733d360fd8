#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>
#include <ATen/ops/matmul.h>

#include "base/json.h"
#include "metrics/seeded.h"

namespace atelier::test {

/// A part of tests/data/metrics/goldens.json (scripts/fixtures/metrics.py).
inline const base::Json& metrics_golden(const std::string& part) {
  static const base::Json all = base::read_json_file(std::string(ATELIER_TEST_DATA) + "/metrics/goldens.json");
  return all.at(part);
}

/// Correlated features that Python makes, too: (n, d) f32.
inline at::Tensor formula_features(const std::string& name, std::int64_t n, std::int64_t d, double scale = 1,
                                   double shift = 0) {
  const at::Tensor rows = metrics::seeded(name, {n, d}, scale).to(at::kDouble);
  return (at::matmul(rows, metrics::seeded(name + ".mix", {d, d}).to(at::kDouble)) + shift).to(at::kFloat);
}

/// The largest difference of any element; infinite where shapes differ or a number is NaN.
inline double difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  const double d = (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
  return std::isnan(d) ? INFINITY : d;
}

inline bool close(double value, double expected, double relative) {
  return std::abs(value - expected) <= relative * std::abs(expected);
}

}  // namespace atelier::test
