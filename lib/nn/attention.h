#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

#include "nn/kv_cache.h"

namespace atelier::nn {

/// Causal attention with grouped queries, an optional sliding window W (position q sees keys in (q - W, q]) and an optional
/// soft cap on the scores, applied before the mask.
struct AttentionSpec {
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0, window = 0;
  double scale = 1, softcap = 0;
};

/// The next n tokens of one sequence: q (n, heads, head_dim), k and v (n, kv_heads, head_dim), already rotated. Appends to the
/// cache and returns (n, heads, head_dim). Scores exist for one block of queries at a time, so memory stays bounded.
at::Tensor attend_run(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, LayerCache& cache,
                      const AttentionSpec& spec);

/// One token of each of B sequences: q (B, heads, head_dim), k and v (B, kv_heads, head_dim). Appends to every cache and
/// returns (B, heads, head_dim). Each row is what it would be alone.
at::Tensor attend_step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       std::span<LayerCache* const> caches, const AttentionSpec& spec);

}  // namespace atelier::nn
