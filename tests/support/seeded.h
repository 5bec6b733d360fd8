#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "base/seeded_numbers.h"

namespace atelier::test {

inline at::Tensor seeded(const std::string& name, at::IntArrayRef shape, double scale = 1, double shift = 0) {
  auto t = at::empty(shape, at::kFloat);
  base::SeededNumbers numbers(name);
  float* data = t.data_ptr<float>();
  for (std::int64_t i = 0; i < t.numel(); ++i) data[i] = static_cast<float>(numbers.next() * scale + shift);
  return t;
}

}  // namespace atelier::test
