#include "metrics/numpy_random.h"

#include <numeric>
#include <utility>

namespace atelier::metrics {

std::uint32_t NumpyRandomState::interval(std::uint32_t max) {
  std::uint32_t mask = max;
  for (int shift = 1; shift < 32; shift *= 2) mask |= mask >> shift;
  std::uint32_t value;
  do value = static_cast<std::uint32_t>(generator_()) & mask;
  while (value > max);
  return value;
}

std::vector<std::int64_t> NumpyRandomState::choice(std::int64_t n, std::int64_t count) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(n));  // a whole permutation, of which the front is taken
  std::iota(all.begin(), all.end(), std::int64_t{0});
  for (std::int64_t i = n - 1; i > 0; --i)
    std::swap(all[static_cast<std::size_t>(i)], all[interval(static_cast<std::uint32_t>(i))]);
  all.resize(static_cast<std::size_t>(count));
  return all;
}

}  // namespace atelier::metrics
