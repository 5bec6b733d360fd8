#include "nn/document_attention.h"

#include <algorithm>
#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/stop.h"

namespace atelier::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Scores of one block of queries: about 16 MiB of f32.
constexpr std::int64_t block_scores = 4 << 20;

/// Queries [first, first + rows) of a document against its keys [low, low + t).
struct Block {
  std::int64_t first, rows, low, t;
};

std::vector<Block> blocks_of(std::int64_t length, const AttentionSpec& spec) {
  std::vector<Block> blocks;
  for (std::int64_t i = 0; i < length;) {
    const std::int64_t low = spec.window > 0 ? std::max<std::int64_t>(0, i - spec.window + 1) : 0;
    const std::int64_t most = std::max<std::int64_t>(16, block_scores / (spec.heads * (length - low)));
    const std::int64_t rows = std::min(length - i, most);
    blocks.push_back({i, rows, low, i + rows - low});
    i += rows;
  }
  return blocks;
}

/// Rows of a document by key head: (n, heads, d) -> (kv, group n, d).
at::Tensor grouped(const at::Tensor& x, const AttentionSpec& spec) {
  const std::int64_t n = x.size(0), group = spec.heads / spec.kv_heads;
  return x.view({n, spec.kv_heads, group, spec.head_dim})
      .permute({1, 2, 0, 3})
      .reshape({spec.kv_heads, group * n, spec.head_dim});
}

/// Back again: (kv, group n, d) -> (n, heads, d).
at::Tensor ungrouped(const at::Tensor& x, std::int64_t n, const AttentionSpec& spec) {
  return x.view({spec.kv_heads, spec.heads / spec.kv_heads, n, spec.head_dim})
      .permute({2, 0, 1, 3})
      .reshape({n, spec.heads, spec.head_dim});
}

/// True where a query must not see a key: (rows, t).
at::Tensor hidden_of(const Block& block, const AttentionSpec& spec, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const auto queries = at::arange(block.first, block.first + block.rows, options).unsqueeze(1);
  const auto keys = at::arange(block.low, block.low + block.t, options).unsqueeze(0);
  auto hidden = keys > queries;
  return spec.window > 0 ? hidden.logical_or(keys <= queries - spec.window) : hidden;
}

struct Weights {
  at::Tensor softmax;  ///< (kv, group rows, t) f32
  at::Tensor tanh;     ///< of the capped scores, likewise; undefined without a cap
};

/// q: (kv, group rows, d), k: (kv, t, d).
Weights weights_of(const at::Tensor& q, const at::Tensor& k, const Block& block, const AttentionSpec& spec,
                   bool keep_tanh) {
  auto scores = at::bmm(q, k.transpose(1, 2)).to(at::kFloat).mul_(spec.scale);  // (kv, group rows, t)
  Weights weights;
  if (spec.softcap > 0) {
    scores.div_(spec.softcap).tanh_();
    if (keep_tanh) weights.tanh = scores.clone();
    scores.mul_(spec.softcap);
  }
  const std::int64_t group = spec.heads / spec.kv_heads;
  scores.view({spec.kv_heads, group, block.rows, block.t})
      .masked_fill_(hidden_of(block, spec, q.device()), -std::numeric_limits<float>::infinity());
  weights.softmax = at::softmax(scores, -1);
  return weights;
}

/// Keys or values of a document by head: (kv, n, d).
at::Tensor by_head(const at::Tensor& x, std::int64_t begin, std::int64_t length) {
  return x.narrow(0, begin, length).transpose(0, 1).contiguous();
}

AttentionSpec spec_of(AutogradContext* ctx) {
  const auto sizes = ctx->saved_data["sizes"].toIntVector();
  return {.heads = sizes[0],
          .kv_heads = sizes[1],
          .head_dim = sizes[2],
          .window = sizes[3],
          .scale = ctx->saved_data["scale"].toDouble(),
          .softcap = ctx->saved_data["softcap"].toDouble()};
}

class DocumentAttention : public torch::autograd::Function<DocumentAttention> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<std::int64_t>& lengths, const AttentionSpec& spec) {
    ctx->save_for_backward({q, k, v});
    ctx->saved_data["lengths"] = lengths;
    ctx->saved_data["sizes"] = std::vector<std::int64_t>{spec.heads, spec.kv_heads, spec.head_dim, spec.window};
    ctx->saved_data["scale"] = spec.scale;
    ctx->saved_data["softcap"] = spec.softcap;
    return run(q, k, v, lengths, spec);
  }

  static at::Tensor run(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const std::vector<std::int64_t>& lengths, const AttentionSpec& spec) {
    auto out = at::empty(q.sizes(), q.options());
    std::int64_t begin = 0;
    for (const std::int64_t length : lengths) {
      const auto keys = by_head(k, begin, length), values = by_head(v, begin, length);  // (kv, n, d)
      for (const Block& block : blocks_of(length, spec)) {
        base::throw_if_stopped();
        const auto queries = grouped(q.narrow(0, begin + block.first, block.rows), spec);
        const auto weights = weights_of(queries, keys.narrow(1, block.low, block.t), block, spec, false);
        const auto y = at::bmm(weights.softmax.to(v.scalar_type()), values.narrow(1, block.low, block.t));
        out.narrow(0, begin + block.first, block.rows).copy_(ungrouped(y, block.rows, spec));
      }
      begin += length;
    }
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const AttentionSpec spec = spec_of(ctx);
    const auto saved = ctx->get_saved_variables();
    const auto &q = saved[0], &k = saved[1], &v = saved[2];
    const auto dy = gradients[0].contiguous();
    auto dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options());
    auto dv = at::empty(v.sizes(), v.options());
    std::int64_t begin = 0;
    for (const std::int64_t length : ctx->saved_data["lengths"].toIntVector()) {
      const auto keys = by_head(k, begin, length), values = by_head(v, begin, length);  // (kv, n, d)
      auto key_sum = at::zeros(keys.sizes(), keys.options().dtype(at::kFloat)), value_sum = at::zeros_like(key_sum);
      for (const Block& block : blocks_of(length, spec)) {
        base::throw_if_stopped();
        const auto place = [&](const at::Tensor& x) { return x.narrow(0, begin + block.first, block.rows); };
        const auto queries = grouped(place(q), spec), upstream = grouped(place(dy), spec);  // (kv, group rows, d)
        const auto seen = keys.narrow(1, block.low, block.t);                               // (kv, t, d)
        const auto weights = weights_of(queries, seen, block, spec, true);
        const auto p = weights.softmax.to(v.scalar_type());
        value_sum.narrow(1, block.low, block.t).add_(at::bmm(p.transpose(1, 2), upstream));
        auto ds = at::bmm(upstream, values.narrow(1, block.low, block.t).transpose(1, 2)).to(at::kFloat);
        ds.sub_((ds * weights.softmax).sum(-1, true)).mul_(weights.softmax);  // (kv, group rows, t)
        if (spec.softcap > 0) ds.mul_(1 - weights.tanh.square());
        const auto scores = ds.mul_(spec.scale).to(q.scalar_type());
        place(dq).copy_(ungrouped(at::bmm(scores, seen), block.rows, spec));
        key_sum.narrow(1, block.low, block.t).add_(at::bmm(scores.transpose(1, 2), queries));
      }
      dk.narrow(0, begin, length).copy_(key_sum.transpose(0, 1));
      dv.narrow(0, begin, length).copy_(value_sum.transpose(0, 1));
      begin += length;
    }
    return {dq, dk, dv, {}, {}};
  }
};

}  // namespace

at::Tensor attend_documents(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<std::int64_t>& lengths, const AttentionSpec& spec) {
  if (!at::GradMode::is_enabled()) return DocumentAttention::run(q, k, v, lengths, spec);
  return DocumentAttention::apply(q, k, v, lengths, spec);
}

}  // namespace atelier::nn
