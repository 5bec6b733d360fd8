#include "nn/attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/softmax.h>

#include "nn/flash.h"
#include "nn/kernels/cache_codes.h"
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
  const auto [past_k, past_v] = cache.past(q.scalar_type());
  const std::int64_t past = past_k.defined() ? past_k.size(1) : 0;
  auto [keys, values] = cache.as_seen(k, v);  // (kv, n, d)
  if (past > 0) {
    keys = at::cat({past_k, keys}, 1);
    values = at::cat({past_v, values}, 1);
  }
  cache.append(k, v);
  const auto* kernel = at::GradMode::is_enabled() ? nullptr : flash_kernel_for(q, spec.head_dim);
  if (kernel != nullptr) return attend_flash(*kernel, q, keys, values, spec);

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

namespace {

/// Queries, each with what it sees of its cache: collected, then computed by blocks of keys, which all threads share.
class RowAttention {
 public:
  RowAttention(const at::Tensor& q, const at::Tensor& out, const AttentionSpec& spec)
      : spec_(spec),
        type_(kernel_type(q)),
        row_bytes_(spec.heads * spec.head_dim * static_cast<std::int64_t>(q.element_size())),
        q_(static_cast<const char*>(q.const_data_ptr())),
        out_(static_cast<char*>(out.mutable_data_ptr())) {}

  /// Rows [first, first + count), each of which sees one more of the cache's places in memory than the one before it; the
  /// last one sees `seen`.
  void add(const LayerCache& cache, std::int64_t first, std::int64_t count, std::int64_t seen) {
    const std::int64_t begin = std::ssize(rows_);
    const bool coded = cache.format() == CacheFormat::int8;
    for (std::int64_t i = 0; i < count; ++i)
      rows_.push_back({{.type = type_,
                        .q = q_ + (first + i) * row_bytes_,
                        .k = cache.keys().const_data_ptr(),
                        .v = cache.values().const_data_ptr(),
                        .out = out_ + (first + i) * row_bytes_,
                        .heads = spec_.heads,
                        .kv_heads = spec_.kv_heads,
                        .head_dim = spec_.head_dim,
                        .length = seen - count + 1 + i,
                        .capacity = cache.keys().size(1),
                        .scale = static_cast<float>(spec_.scale),
                        .softcap = static_cast<float>(spec_.softcap)},
                       coded ? cache.key_scales().const_data_ptr<float>() : nullptr,
                       coded ? cache.value_scales().const_data_ptr<float>() : nullptr,
                       places_});
    for (std::int64_t i = begin; i < std::ssize(rows_); ++i) {
      rows_[i].place = places_;
      places_ += spec_.kv_heads * blocks_of(rows_[i]);
    }
    // Block by block, so that keys and values come out of the nearest memory for all rows but the first.
    for (std::int64_t head = 0; head < spec_.kv_heads; ++head)
      for (std::int64_t block = 0; block < blocks_of(rows_.back()); ++block)
        for (std::int64_t row = begin; row < std::ssize(rows_); ++row)
          if (block < blocks_of(rows_[row])) blocks_.push_back({row, head, block});
  }

  /// Computes what was added, and forgets it.
  void run() {
    const std::int64_t group = spec_.heads / spec_.kv_heads, dim = spec_.head_dim;
    std::vector<float> top(places_ * group), total(places_ * group), sums(places_ * group * dim);
    parallel(std::ssize(blocks_), group * dim * kernels::attention_block_keys,
             [&](std::int64_t begin, std::int64_t end) {
               float scores[kernels::attention_block_keys];
               for (std::int64_t i = begin; i < end; ++i) {
                 const auto [row, head, block] = blocks_[i];
                 const Row& r = rows_[row];
                 const std::int64_t first = block * kernels::attention_block_keys;
                 const std::int64_t last = std::min(r.args.length, first + kernels::attention_block_keys);
                 const std::int64_t place = (r.place + head * blocks_of(r) + block) * group;
                 if (r.key_scales != nullptr)
                   kernels::code_table().attention_block(r.args, r.key_scales, r.value_scales, head, first, last,
                                                         &top[place], &total[place], &sums[place * dim]);
                 else
                   kernels::table().attention_block(r.args, head, first, last, &top[place], &total[place],
                                                    &sums[place * dim], scores);
               }
             });
    for (const Row& r : rows_)
      for (std::int64_t head = 0; head < spec_.kv_heads; ++head) {
        const std::int64_t place = (r.place + head * blocks_of(r)) * group;
        kernels::table().attention_merge(r.args, head, blocks_of(r), &top[place], &total[place], &sums[place * dim]);
      }
    rows_.clear(), blocks_.clear(), places_ = 0;
  }

 private:
  struct Row {
    kernels::AttentionArgs args;
    const float *key_scales, *value_scales;  ///< or null
    std::int64_t place;                      ///< of its first block among the partial results
  };
  struct Block {
    std::int64_t row, head, index;
  };
  static std::int64_t blocks_of(const Row& row) {
    return (row.args.length + kernels::attention_block_keys - 1) / kernels::attention_block_keys;
  }

  const AttentionSpec& spec_;
  kernels::Type type_;
  std::int64_t row_bytes_;
  const char* q_;
  char* out_;
  std::vector<Row> rows_;
  std::vector<Block> blocks_;
  std::int64_t places_ = 0;
};

}  // namespace

at::Tensor attend_rows(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       std::span<LayerCache* const> caches, std::span<const std::int64_t> counts,
                       const AttentionSpec& spec) {
  auto out = at::empty_like(q, at::MemoryFormat::Contiguous);
  std::int64_t first = 0;
  if (!has_kernels(q)) {
    for (std::size_t s = 0; s < caches.size(); first += counts[s++]) {
      const auto rows = [&](const at::Tensor& t) { return t.narrow(0, first, counts[s]); };
      rows(out).copy_(attend_run(rows(q), rows(k), rows(v), *caches[s], spec));
    }
    return out;
  }
  RowAttention attention(q, out, spec);
  for (std::size_t s = 0; s < caches.size(); first += counts[s++]) {
    LayerCache& cache = *caches[s];
    // Where a ring is full, each token takes the place of one that those before it still see.
    const std::int64_t together = cache.has_room(counts[s]) ? counts[s] : 1;
    for (std::int64_t i = 0; i < counts[s]; i += together) {
      if (i > 0) attention.run();
      cache.append(k.narrow(0, first + i, together), v.narrow(0, first + i, together));
      attention.add(cache, first + i, together, cache.filled());
    }
  }
  attention.run();
  return out;
}

}  // namespace atelier::nn
