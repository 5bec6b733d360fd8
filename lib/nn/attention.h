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

/// The next counts[s] tokens of each of several sequences, one behind another: q (N, heads, head_dim), k and v (N, kv_heads,
/// head_dim), N the sum of the counts. Appends to every cache and returns (N, heads, head_dim). Each row is bit for bit what
/// it would be if its sequence were alone and its tokens came one at a time.
at::Tensor attend_rows(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       std::span<LayerCache* const> caches, std::span<const std::int64_t> counts,
                       const AttentionSpec& spec);

}  // namespace atelier::nn
