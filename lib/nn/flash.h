#pragma once

#include <ATen/core/Tensor.h>

#include "nn/kernels/flash_attention.h"

namespace atelier::nn {

/// The kernel of attention for whole sequences with such heads, or null where LibTorch's operators serve: with gradients,
/// on other devices, types and processors.
const kernels::FlashKernels* flash_kernel_for(const at::Tensor& q, std::int64_t head_dim);

/// Runs it, shared out over LibTorch's threads.
void flash_attention(const kernels::FlashKernels& kernel, const kernels::FlashArgs& args);

}  // namespace atelier::nn
