#pragma once

#include <ATen/core/Tensor.h>

#include "nn/kernels/flash_attention.h"

namespace atelier::nn {

/// The kernels of attention for whole sequences with such heads, or null where LibTorch's operators serve: on other devices, types and
/// processors.
const kernels::FlashKernels* flash_kernel_for(const at::Tensor& q, std::int64_t head_dim);
/// The same for q (B, L, heads d), k and v (B, S, heads d), any of which may be of a layout that the kernels don't take.
const kernels::FlashKernels* flash_kernel_for(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, bool causal);

/// x (B, L, heads d), d: head_dim.
kernels::FlashArgs::Side flash_side(const at::Tensor& x, std::int64_t head_dim);
/// Of softmax(q k^T / sqrt(d)) v; `out` is the caller's to set.
kernels::FlashArgs flash_args(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, bool causal);

/// These run the kernels, shared out over LibTorch's threads: gradients by batch and head.
void flash_attention(const kernels::FlashKernels& kernel, const kernels::FlashArgs& args);
void flash_gradients(const kernels::FlashKernels& kernel, const kernels::FlashGradientArgs& args);

}  // namespace atelier::nn
