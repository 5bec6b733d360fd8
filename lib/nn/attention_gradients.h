#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// What attention came to, and what its gradients need of it: the sums of e^score of each query, in a form that is the kernels' own.
struct AttentionResult {
  at::Tensor y;  ///< (B, L, heads d)
  at::Tensor sums;
};

/// multi_head_attention (conv.h) on the CPU, outside of any graph: kernels of our own (kernels/flash_attention.h) where there are some,
/// else LibTorch's fused ones.
AttentionResult attention_with_sums(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, bool causal);

/// `result`, of attention_with_sums of the same, as what came of q, k and v in the graph: backward gives them their gradients.
at::Tensor with_attention_gradients(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionResult& result,
                                    std::int64_t heads, bool causal);

}  // namespace atelier::nn
