#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nn/attention.h"

namespace atelier::nn {

/// Causal attention within whole documents that lie one behind another, for training: q (N, heads, head_dim), k and v
/// (N, kv_heads, head_dim), already rotated, `lengths` sum to N. No position sees another document. Returns (N, heads,
/// head_dim) in q's dtype; differentiable in q, k and v, window and soft cap included.
///
/// Scores exist for one block of queries at a time: backward computes them anew (Rabe, Staats 2021, Self-attention Does
/// Not Need O(n^2) Memory), so that what is kept is q, k and v.
at::Tensor attend_documents(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<std::int64_t>& lengths, const AttentionSpec& spec);

}  // namespace atelier::nn
