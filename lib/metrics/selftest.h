#pragma once

#include <string>
#include <vector>

namespace atelier::metrics {

/// A golden value, computed now without any file.
struct SelfTest {
  std::string metric, variant;  ///< as in Figure
  double value = 0, expected = 0;
  double tolerance = 0;  ///< the largest difference that counts as equal

  bool passed() const;  ///< false for a NaN, too
};

/// Every metric on pictures and networks that follow from a formula, against what the Python packages gave for the same ones
/// (scripts/fixtures/metrics.py). Takes seconds.
std::vector<SelfTest> selftest();

}  // namespace atelier::metrics
