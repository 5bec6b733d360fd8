#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

namespace atelier::test {

/// Numbers in [-1, 1) that follow from a name: the same as scripts/fixtures/_seeded.py makes, so that no file holds them.
class Seeded {
 public:
  explicit Seeded(std::string_view name) {
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

inline at::Tensor seeded(const std::string& name, at::IntArrayRef shape, double scale = 1, double shift = 0) {
  auto t = at::empty(shape, at::kFloat);
  Seeded numbers(name);
  float* data = t.data_ptr<float>();
  for (std::int64_t i = 0; i < t.numel(); ++i) data[i] = static_cast<float>(numbers.next() * scale + shift);
  return t;
}

}  // namespace atelier::test
