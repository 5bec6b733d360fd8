#include "nn/attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/softmax.h>

#include "nn/flash.h"
#include "nn/norm.h"
#include "nn/parallel.h"

namespace atelier::nn {
namespace {

/// Scores of one block of queries: about 16 MiB of f32, whatever the context.
constexpr std::int64_t block_scores = 4 << 20;

/// A block of queries against keys [low, low + t): q (n, heads, d), k and v (kv_heads, t, d).
/// `query` is the place of the first of them among all keys, `low` that of the first key.
at::Tensor attend_block(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t query,
                        std::int64_t low, const AttentionSpec& spec) {
  const std::int64_t n = q.size(0), t = k.size(1), group = spec.heads / spec.kv_heads;
  const auto grouped = q.view({n, spec.kv_heads, group, spec.head_dim})
                           .permute({1, 2, 0, 3})
                           .reshape({spec.kv_heads, group * n, spec.head_dim});       // (kv, g n, d)
  auto scores = at::bmm(grouped, k.transpose(1, 2)).to(at::kFloat).mul_(spec.scale);  // (kv, g n, t)
  if (spec.softcap > 0) scores = softcap(scores, spec.softcap);
  const auto queries = at::arange(query, query + n, q.options().dtype(at::kLong)).unsqueeze(1);  // (n, 1)
  const auto keys = at::arange(low, low + t, q.options().dtype(at::kLong)).unsqueeze(0);         // (1, t)
  auto hidden = keys > queries;
  if (spec.window > 0) hidden = hidden.logical_or(keys <= queries - spec.window);
  scores = scores.view({spec.kv_heads, group, n, t}).masked_fill_(hidden, -std::numeric_limits<float>::infinity());
  const auto weights = at::softmax(scores, -1).to(q.scalar_type()).view({spec.kv_heads, group * n, t});
  return at::bmm(weights, v)
      .view({spec.kv_heads, group, n, spec.head_dim})
      .permute({2, 0, 1, 3})
      .reshape({n, spec.heads, spec.head_dim});
}

/// The last n of t positions against all of them, without materialised scores: q (n, heads, d), k and v (kv_heads, t, d).
at::Tensor attend_flash(const kernels::FlashKernels& kernel, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const AttentionSpec& spec) {
  const auto out = at::empty_like(q, at::MemoryFormat::Contiguous);
  const auto side = [](const at::Tensor& x) { return kernels::FlashArgs::Side{x.const_data_ptr(), 0, x.stride(1), x.stride(0)}; };
  flash_attention(kernel, {.type = kernel_type(q),
                           .q = {q.const_data_ptr(), 0, q.stride(0), q.stride(1)},
                           .k = side(k),
                           .v = side(v),
                           .out = out.mutable_data_ptr(),
                           .batch = 1,
                           .heads = spec.heads,
                           .queries = q.size(0),
                           .keys = k.size(1),
                           .head_dim = spec.head_dim,
                           .scale = static_cast<float>(spec.scale),
                           .causal = true,
                           .past = k.size(1) - q.size(0),
                           .window = spec.window,
                           .softcap = static_cast<float>(spec.softcap),
                           .group = spec.heads / spec.kv_heads});
  return out;
}

}  // namespace

at::Tensor attend_run(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, LayerCache& cache,
                      const AttentionSpec& spec) {
  const std::int64_t n = q.size(0);
  const auto [past_k, past_v] = cache.past();
  const std::int64_t past = past_k.defined() ? past_k.size(1) : 0;
  at::Tensor keys = k.transpose(0, 1), values = v.transpose(0, 1);  // (kv, n, d)
  if (past > 0) {
    keys = at::cat({past_k, keys}, 1);
    values = at::cat({past_v, values}, 1);
  }
  cache.append(k, v);
  if (const auto* kernel = flash_kernel_for(q, spec.head_dim)) return attend_flash(*kernel, q, keys, values, spec);

  auto out = at::empty_like(q, at::MemoryFormat::Contiguous);
  for (std::int64_t i = 0; i < n;) {
    const std::int64_t low = spec.window > 0 ? std::max<std::int64_t>(0, past + i - spec.window + 1) : 0;
    const std::int64_t span = past + n - low;
    const std::int64_t rows = std::min(n - i, std::max<std::int64_t>(16, block_scores / (spec.heads * span)));
    const std::int64_t seen = past + i + rows - low;
    out.narrow(0, i, rows)
        .copy_(attend_block(q.narrow(0, i, rows), keys.narrow(1, low, seen), values.narrow(1, low, seen), past + i, low,
                            spec));
    i += rows;
  }
  return out;
}

at::Tensor attend_step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       std::span<LayerCache* const> caches, const AttentionSpec& spec) {
  auto out = at::empty_like(q, at::MemoryFormat::Contiguous);
  const auto batch = static_cast<std::int64_t>(caches.size());
  if (!has_kernels(q)) {
    for (std::int64_t b = 0; b < batch; ++b)
      out.narrow(0, b, 1).copy_(attend_run(q.narrow(0, b, 1), k.narrow(0, b, 1), v.narrow(0, b, 1), *caches[b], spec));
    return out;
  }

  struct Block {
    std::int64_t sequence, kv_head, index;
  };
  std::vector<kernels::AttentionArgs> args;
  std::vector<Block> blocks;
  std::vector<std::int64_t> first_block;  // per (sequence, kv head)
  const std::int64_t group = spec.heads / spec.kv_heads;
  const std::int64_t row = spec.heads * spec.head_dim * static_cast<std::int64_t>(q.element_size());
  for (std::int64_t b = 0; b < batch; ++b) {
    LayerCache& cache = *caches[b];
    cache.append(k.narrow(0, b, 1), v.narrow(0, b, 1));
    args.push_back({.type = kernel_type(q),
                    .q = static_cast<const char*>(q.const_data_ptr()) + b * row,
                    .k = cache.keys().const_data_ptr(),
                    .v = cache.values().const_data_ptr(),
                    .out = static_cast<char*>(out.mutable_data_ptr()) + b * row,
                    .heads = spec.heads,
                    .kv_heads = spec.kv_heads,
                    .head_dim = spec.head_dim,
                    .length = cache.filled(),
                    .capacity = cache.keys().size(1),
                    .scale = static_cast<float>(spec.scale),
                    .softcap = static_cast<float>(spec.softcap)});
    for (std::int64_t h = 0; h < spec.kv_heads; ++h) {
      first_block.push_back(static_cast<std::int64_t>(blocks.size()));
      for (std::int64_t i = 0; i * kernels::attention_block_keys < args[b].length; ++i) blocks.push_back({b, h, i});
    }
  }
  first_block.push_back(static_cast<std::int64_t>(blocks.size()));

  const auto count = static_cast<std::int64_t>(blocks.size());
  std::vector<float> top(count * group), total(count * group), sums(count * group * spec.head_dim);
  parallel(count, group * spec.head_dim * kernels::attention_block_keys, [&](std::int64_t begin, std::int64_t end) {
    float scores[kernels::attention_block_keys];
    for (std::int64_t i = begin; i < end; ++i) {
      const auto& a = args[blocks[i].sequence];
      const std::int64_t first = blocks[i].index * kernels::attention_block_keys;
      kernels::table().attention_block(a, blocks[i].kv_head, first,
                                       std::min(a.length, first + kernels::attention_block_keys), &top[i * group],
                                       &total[i * group], &sums[i * group * spec.head_dim], scores);
    }
  });
  for (std::int64_t i = 0; i < batch * spec.kv_heads; ++i) {
    const std::int64_t first = first_block[i];
    kernels::table().attention_merge(args[i / spec.kv_heads], i % spec.kv_heads, first_block[i + 1] - first,
                                     &top[first * group], &total[first * group], &sums[first * group * spec.head_dim]);
  }
  return out;
}

}  // namespace atelier::nn
