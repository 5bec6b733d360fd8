#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "base/json.h"
#include "io/weight_source.h"
#include "nn/module.h"

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

inline at::Tensor seeded_weight(const std::string& name, at::IntArrayRef shape) {
  if (shape.size() == 1) {
    const bool norm = name.ends_with("weight") && name.find("norm") != std::string::npos;
    return seeded(name, shape, 0.3, norm ? 1.0 : 0.0);
  }
  std::int64_t fan_in = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) fan_in *= shape[i];
  return seeded(name, shape, 1.5 / std::sqrt(static_cast<double>(fan_in)));
}

inline void fill_seeded(nn::Module& module, at::ScalarType dtype = at::kFloat) {
  for (auto& entry : module.named_parameters())
    entry.value().set_data(seeded_weight(entry.key(), entry.value().sizes()).to(dtype));
}

inline base::Json diffusion_config(const std::string& name) {
  static const base::Json all = base::read_json_file(std::string(ATELIER_TEST_DATA) + "/diffusion/configs.json");
  return all.at(name);
}

inline at::Tensor diffusion_golden(const std::string& name) {
  static const auto source = io::WeightSource::open(std::string(ATELIER_TEST_DATA) + "/diffusion/goldens.safetensors");
  return source->load(name, at::kFloat, at::kCPU);
}

/// The largest difference of any element; infinite where shapes differ or a number is NaN.
inline double difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  const double d = (a.to(at::kFloat) - b.to(at::kFloat)).abs().max().item<double>();
  return std::isnan(d) ? INFINITY : d;
}

}  // namespace atelier::test
