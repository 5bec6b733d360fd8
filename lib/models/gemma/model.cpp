#include "models/gemma/model.h"

#include <cmath>

#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>

namespace atelier::models::gemma {
namespace {

/// A container that only gives its children a name ("model", "layers", "embed_tokens").
class Group : public nn::Module {
 public:
  using nn::Module::register_module;
};

}  // namespace

Attention::Attention(const Config& c, bool sliding)
    : spec_{.heads = c.heads,
            .kv_heads = c.kv_heads,
            .head_dim = c.head_dim,
            .window = sliding ? c.window : 0,
            .scale = c.attention_scale,
            .softcap = c.attention_softcap} {
  const auto linear = [&](const char* name, std::int64_t in, std::int64_t out) {
    return register_module(name, std::make_shared<nn::Linear>(in, out, c.attention_bias));
  };
  q_proj = linear("q_proj", c.hidden_size, c.heads * c.head_dim);
  k_proj = linear("k_proj", c.hidden_size, c.kv_heads * c.head_dim);
  v_proj = linear("v_proj", c.hidden_size, c.kv_heads * c.head_dim);
  o_proj = linear("o_proj", c.heads * c.head_dim, c.hidden_size);
  if (c.qk_norm()) {
    q_norm = register_module("q_norm", std::make_shared<nn::RmsNorm>(c.head_dim, c.norm_eps));
    k_norm = register_module("k_norm", std::make_shared<nn::RmsNorm>(c.head_dim, c.norm_eps));
  }
}

at::Tensor Attention::forward(const at::Tensor& x, const Angles& angles, const Attend& attend) const {
  const std::int64_t n = x.size(0);
  auto q = q_proj->forward(x).view({n, spec_.heads, spec_.head_dim});
  auto k = k_proj->forward(x).view({n, spec_.kv_heads, spec_.head_dim});
  const auto v = v_proj->forward(x).view({n, spec_.kv_heads, spec_.head_dim});
  if (q_norm) {
    q = q_norm->forward(q);
    k = k_norm->forward(k);
  }
  const bool local = spec_.window > 0;
  q = nn::rotate(q, local ? angles.local_cos : angles.cos, local ? angles.local_sin : angles.sin);
  k = nn::rotate(k, local ? angles.local_cos : angles.cos, local ? angles.local_sin : angles.sin);
  return o_proj->forward(attend(q, k, v, spec_).view({n, spec_.heads * spec_.head_dim}));
}

Mlp::Mlp(const Config& c) {
  gate_proj = register_module("gate_proj", std::make_shared<nn::Linear>(c.hidden_size, c.intermediate_size));
  up_proj = register_module("up_proj", std::make_shared<nn::Linear>(c.hidden_size, c.intermediate_size));
  down_proj = register_module("down_proj", std::make_shared<nn::Linear>(c.intermediate_size, c.hidden_size));
}

at::Tensor Mlp::forward(const at::Tensor& x) const {
  return down_proj->forward(nn::geglu(gate_proj->forward(x), up_proj->forward(x)));
}

DecoderLayer::DecoderLayer(const Config& c, bool sliding) {
  const auto norm = [&](const char* name) {
    return register_module(name, std::make_shared<nn::RmsNorm>(c.hidden_size, c.norm_eps));
  };
  self_attn = register_module("self_attn", std::make_shared<Attention>(c, sliding));
  mlp = register_module("mlp", std::make_shared<Mlp>(c));
  input_layernorm = norm("input_layernorm");
  post_attention_layernorm = norm("post_attention_layernorm");
  if (c.four_norms()) {
    pre_feedforward_layernorm = norm("pre_feedforward_layernorm");
    post_feedforward_layernorm = norm("post_feedforward_layernorm");
  }
}

at::Tensor DecoderLayer::forward(at::Tensor x, const Angles& angles, const Attend& attend) const {
  auto h = self_attn->forward(input_layernorm->forward(x), angles, attend);  // (N, hidden)
  if (!pre_feedforward_layernorm) {
    // Gemma 1: what the checkpoint calls post_attention_layernorm is the norm before the MLP.
    x = x + h;
    return x + mlp->forward(post_attention_layernorm->forward(x));
  }
  x = x + post_attention_layernorm->forward(h);
  h = mlp->forward(pre_feedforward_layernorm->forward(x));
  return x + post_feedforward_layernorm->forward(h);
}

CausalLm::CausalLm(const Config& c)
    : config_(c),
      rope_(c.head_dim, c.rope_theta, c.rope_factor),
      local_rope_(c.head_dim, c.rope_local_theta, c.rope_local_factor) {
  auto model = register_module("model", std::make_shared<Group>());
  embed_tokens_ = model->register_module(
      "embed_tokens", std::make_shared<nn::Embedding>(c.vocab_size, c.hidden_size, std::sqrt(c.hidden_size)));
  auto layers = model->register_module("layers", std::make_shared<Group>());
  for (std::int64_t i = 0; i < c.layers; ++i)
    layers_.push_back(layers->register_module(std::to_string(i), std::make_shared<DecoderLayer>(c, c.sliding[i])));
  norm_ = model->register_module("norm", std::make_shared<nn::RmsNorm>(c.hidden_size, c.norm_eps));
  lm_head_ = register_module("lm_head", c.tied_head ? std::make_shared<nn::Linear>(embed_tokens_->weight)
                                                    : std::make_shared<nn::Linear>(c.hidden_size, c.vocab_size));
}

Angles CausalLm::angles(const std::vector<std::int64_t>& positions) const {
  auto [cos, sin] = rope_.angles(positions);
  auto [local_cos, local_sin] = local_rope_.angles(positions);
  return {cos.to(device()), sin.to(device()), local_cos.to(device()), local_sin.to(device())};
}

at::Tensor CausalLm::forward(const Batch& batch) const {
  const auto n = static_cast<std::int64_t>(batch.tokens.size());
  const bool chunk = batch.counts.empty() && batch.caches.size() == 1 && n > 1;
  std::vector<std::int64_t> counts(batch.counts.begin(), batch.counts.end());
  if (counts.empty()) counts.assign(batch.caches.size(), chunk ? n : 1);
  std::vector<std::int64_t> positions;
  for (std::size_t s = 0; s < counts.size(); ++s)
    for (std::int64_t i = 0; i < counts[s]; ++i) positions.push_back(batch.caches[s]->positions + i);
  const auto ids =
      at::tensor(at::ArrayRef<std::int32_t>(batch.tokens.data(), batch.tokens.size()), at::kInt).to(device());
  auto x = embed_tokens_->forward(ids);  // (N, hidden)
  const Angles turned = angles(positions);
  std::vector<nn::LayerCache*> caches(batch.caches.size());
  const Attend attend = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const nn::AttentionSpec& spec) {
    return chunk ? nn::attend_run(q, k, v, *caches[0], spec) : nn::attend_rows(q, k, v, caches, counts, spec);
  };
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    for (std::size_t s = 0; s < caches.size(); ++s) caches[s] = &batch.caches[s]->layers[i];
    x = layers_[i]->forward(x, turned, attend);
  }
  for (std::size_t s = 0; s < counts.size(); ++s) batch.caches[s]->positions += counts[s];
  return norm_->forward(x);
}

at::Tensor CausalLm::logits(const at::Tensor& hidden) const {
  auto y = lm_head_->forward(hidden, /*f32_result=*/true);  // (N, vocab)
  return config_.final_softcap > 0 ? nn::softcap(y, config_.final_softcap) : y;
}

void CausalLm::untie() {
  if (lm_head_->weight.is_same(embed_tokens_->weight)) lm_head_->weight = embed_tokens_->weight.detach();
}

void CausalLm::share_quantised() {
  if (config_.tied_head && embed_tokens_->quantised()) lm_head_->quantise(embed_tokens_->quantised());
}

nn::KvCache CausalLm::new_cache() const {
  nn::KvCache cache;
  for (const bool sliding : config_.sliding)
    cache.layers.emplace_back(sliding ? config_.window : 0, config_.max_positions, cache_format_);
  return cache;
}

bool CausalLm::cut(nn::KvCache& cache, std::int64_t begin, std::int64_t count) const {
  for (const auto& layer : cache.layers)
    if (!layer.can_cut(begin, count)) return false;
  for (auto& layer : cache.layers) {
    const nn::Rope& rope = layer.window() > 0 ? local_rope_ : rope_;
    layer.cut(begin, count, [&](const at::Tensor& keys) {  // (kv_heads, m, head_dim)
      const auto [cos, sin] = rope.angles(std::vector<std::int64_t>(static_cast<std::size_t>(keys.size(1)), -count));
      // In f32: the keys are rounded once more, not twice.
      const auto rows =
          keys.transpose(0, 1).to(at::kFloat).clone(at::MemoryFormat::Contiguous);  // (m, kv_heads, head_dim)
      return nn::rotate(rows, cos.to(device()), sin.to(device())).to(keys.scalar_type()).transpose(0, 1);
    });
  }
  cache.positions -= count;
  return true;
}

std::int64_t cache_bytes(const Config& c, std::int64_t positions, at::ScalarType dtype, nn::CacheFormat format) {
  std::int64_t kept = 0, position = 0;
  for (const bool sliding : c.sliding) kept += sliding ? std::min(positions, c.window) : positions;
  for (const auto& part : nn::cache_parts(format, dtype, c.head_dim))
    position += part.width * static_cast<std::int64_t>(c10::elementSize(part.dtype));
  return kept * c.kv_heads * position;
}

}  // namespace atelier::models::gemma
