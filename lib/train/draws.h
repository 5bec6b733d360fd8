#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "base/seed.h"

namespace atelier::train {

/// One sequence of numbers for each purpose and epoch of a run, the same on every platform.
inline base::Generator generator_of(std::uint64_t seed, std::int64_t epoch, std::uint64_t purpose) {
  std::seed_seq parts{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                      static_cast<std::uint32_t>(epoch), static_cast<std::uint32_t>(purpose)};
  return base::Generator(parts);
}

/// A number below `bound`, which must be above 0.
inline std::size_t draw_below(base::Generator& generator, std::size_t bound) {
  const auto number = static_cast<std::size_t>(base::uniform(generator) * static_cast<double>(bound));
  return std::min(number, bound - 1);
}

/// Fisher and Yates; std::shuffle differs between libraries.
template <class T>
void shuffle(std::vector<T>& items, base::Generator& generator) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[draw_below(generator, i)]);
}

/// The same with a generator of its own.
template <class T>
void shuffle(std::vector<T>& items, base::Generator&& generator) {
  shuffle(items, generator);
}

}  // namespace atelier::train
