#pragma once

#include <cstdint>
#include <string_view>

namespace atelier::base {

/// Numbers in [-1, 1) that follow from a name: FNV-1a of it, then splitmix64, 24 bits each. The same as scripts/fixtures/_seeded.py makes, so that
/// self-tests and goldens need no files of weights.
class SeededNumbers {
 public:
  explicit SeededNumbers(std::string_view name) {
    for (const unsigned char byte : name) hash_ = (hash_ ^ byte) * 0x100000001b3ull;
  }
  double next() {
    hash_ += 0x9e3779b97f4a7c15ull;
    std::uint64_t z = hash_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z = z ^ (z >> 31);
    return static_cast<double>(z >> 40) / 8388608.0 - 1.0;
  }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325ull;
};

}  // namespace atelier::base
