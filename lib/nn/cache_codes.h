#pragma once

#include <utility>

#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// Keys or values in 8 bits: x (kv_heads, n, head_dim) of any strides becomes codes of that shape, contiguous, and scales
/// (kv_heads, n, 1) in f32. Of each head and position the greatest magnitude has the code 127 or -127, and x is about
/// code x scale: off by at most half a scale.
std::pair<at::Tensor, at::Tensor> to_codes(const at::Tensor& x);

/// code x scale, rounded to `dtype`: (kv_heads, n, head_dim).
at::Tensor from_codes(const at::Tensor& codes, const at::Tensor& scales, at::ScalarType dtype);

}  // namespace atelier::nn
