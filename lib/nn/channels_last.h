#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// Whether the kernels for pixels whose channels lie side by side take this (B, C, H, W): on the CPU, f32 or bf16, channels last, and
/// no gradient is wanted.
bool has_channels_last_kernels(const at::Tensor& x);

struct GroupNormOptions {
  std::int64_t groups = 32;
  double eps = 1e-5;
  bool silu = false;          ///< activates the result
  bool in_place = false;      ///< the result takes x's memory
  at::Tensor added = {};      ///< (B, C), added to every pixel first
};

/// Group normalisation in one pass over memory for the sums and one for the result. weight, bias: (C) in x's type. Sums are f32 over
/// 128 pixels and f64 over these.
at::Tensor group_norm_channels_last(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const GroupNormOptions& options);

/// a gelu(b) of x (..., 2 n) = a, b (GEGLU, arXiv:2002.05202), gelu the exact one; result (..., n).
at::Tensor gelu_gate(const at::Tensor& x);

}  // namespace atelier::nn
