#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "base/json.h"
#include "io/weight_source.h"
#include "nn/module.h"
#include "support/seeded.h"

namespace atelier::test {

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
