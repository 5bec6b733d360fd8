#pragma once

#include <algorithm>
#include <cstdint>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include "nn/kernels/kernels.h"

namespace atelier::nn {

/// Splits [0, n) over LibTorch's threads so that each gets at least about 32k operations of `cost` each.
template <class F>
void parallel(std::int64_t n, std::int64_t cost, const F& f) {
  at::parallel_for(0, n, std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(1, cost)), f);
}

/// Whether the CPU kernels take this tensor: on the CPU, f32 or bf16.
inline bool has_kernels(const at::Tensor& t) {
  return t.device().is_cpu() && (t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16);
}

inline kernels::Type kernel_type(const at::Tensor& t) {
  return t.scalar_type() == at::kBFloat16 ? kernels::Type::bfloat16 : kernels::Type::float32;
}

}  // namespace atelier::nn
