#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace atelier::metrics {

/// The draws of numpy.random.RandomState, as far as KID's subsets need them: the same seed gives the same subsets as Python's.
/// Reference: numpy/random/mtrand.pyx, whose stream is frozen.
class NumpyRandomState {
 public:
  explicit NumpyRandomState(std::uint32_t seed) : generator_(seed) {}

  /// `count` different numbers below n: choice(n, count, replace=False). count at most n.
  std::vector<std::int64_t> choice(std::int64_t n, std::int64_t count);

 private:
  std::uint32_t interval(std::uint32_t max);  // 0 to max, both included

  std::mt19937 generator_;  // seeded by an integer as numpy's legacy seeding is
};

}  // namespace atelier::metrics
