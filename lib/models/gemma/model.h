#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "models/gemma/config.h"
#include "nn/attention.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/rope.h"

namespace atelier::models::gemma {

/// The tokens of one forward pass, flattened, which follow what the caches hold. Either one sequence with any number of tokens
/// (a chunk of a prompt), or a decoding step: several sequences with one token each, or with counts[s] of them. In a step of
/// up to nn::max_invariant_rows tokens each row is what it would be if its sequence were alone and came one token at a time.
struct Batch {
  std::span<const std::int32_t> tokens;
  std::span<nn::KvCache* const> caches;
  std::span<const std::int64_t> counts = {};
};

/// Whole texts for training, one behind another; positions restart with each, and none sees another. There is no padding.
struct Documents {
  at::Tensor tokens;                  ///< (N) int64
  std::vector<std::int64_t> lengths;  ///< sum to N
};

/// What the backward pass of a training computes again instead of keeping it.
struct Recompute {
  bool layers = false;           ///< activation checkpointing: of each layer only its input is kept,
  std::uint64_t kept_bytes = 0;  ///< and what its frozen products come to, in as many layers as have room in this
};
/// Bytes of the products of one layer for one token, elements of `element_size` bytes.
std::int64_t product_bytes(const Config& config, std::int64_t element_size);

/// cos and sin of a pass, for the full and the sliding layers.
struct Angles {
  at::Tensor cos, sin, local_cos, local_sin;
};

/// What a layer's rotated queries (N, heads, head_dim), keys and values (N, kv_heads, head_dim) come to: (N, heads,
/// head_dim). Generating, it goes through a cache, training through whole documents.
using Attend = std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const nn::AttentionSpec& spec)>;

class Attention : public nn::Module {
 public:
  Attention(const Config& config, bool sliding);
  /// x: (N, hidden), one row per token of the batch.
  at::Tensor forward(const at::Tensor& x, const Angles& angles, const Attend& attend) const;

 private:
  nn::AttentionSpec spec_;
  std::shared_ptr<nn::Linear> q_proj, k_proj, v_proj, o_proj;
  std::shared_ptr<nn::RmsNorm> q_norm, k_norm;  ///< Gemma 3
};

class Mlp : public nn::Module {
 public:
  explicit Mlp(const Config& config);
  at::Tensor forward(const at::Tensor& x) const;  // (N, hidden) -> (N, hidden)

 private:
  std::shared_ptr<nn::Linear> gate_proj, up_proj, down_proj;
};

class DecoderLayer : public nn::Module {
 public:
  DecoderLayer(const Config& config, bool sliding);
  at::Tensor forward(at::Tensor x, const Angles& angles, const Attend& attend) const;

 private:
  std::shared_ptr<Attention> self_attn;
  std::shared_ptr<Mlp> mlp;
  std::shared_ptr<nn::RmsNorm> input_layernorm, post_attention_layernorm;
  std::shared_ptr<nn::RmsNorm> pre_feedforward_layernorm, post_feedforward_layernorm;  ///< not in Gemma 1
};

/// A Gemma 1, 2 or 3 text model with its language-model head; names as in transformers' GemmaForCausalLM.
/// Reference: Gemma (arXiv:2403.08295), Gemma 2 (arXiv:2408.00118), Gemma 3 (arXiv:2503.19786).
class CausalLm : public nn::Module {
 public:
  explicit CausalLm(const Config& config);

  /// Hidden states after the last norm, (N, hidden). Advances the caches.
  at::Tensor forward(const Batch& batch) const;
  /// Logits in f32, (N, vocab), of hidden states (N, hidden): the final soft cap included.
  at::Tensor logits(const at::Tensor& hidden) const;

  /// For training: hidden states after the last norm, (N, hidden), with their graph.
  at::Tensor forward(const Documents& documents, const Recompute& recompute) const;
  /// For training: the SUM over positions of the cross-entropy of targets (n) int64, hidden (n, hidden): a scalar in f32.
  /// `rows` positions at a time have logits; 0: nn::cross_entropy_rows.
  at::Tensor loss(const at::Tensor& hidden, const at::Tensor& targets, std::int64_t rows = 0) const;

  /// forward(Documents) step by step, for what works on one layer at a time. x: (N, hidden).
  at::Tensor embed(const at::Tensor& tokens) const;
  at::Tensor run_layer(std::size_t layer, const at::Tensor& x, const std::vector<std::int64_t>& lengths) const;
  at::Tensor last_norm(const at::Tensor& x) const { return norm_->forward(x); }

  nn::KvCache new_cache() const;
  /// Of the caches that are made from now on. int8 takes heads of up to 1,024 numbers, as parse_config does.
  void set_cache_format(nn::CacheFormat format) { cache_format_ = format; }
  nn::CacheFormat cache_format() const { return cache_format_; }
  /// Takes the positions [begin, begin + count) out of a cache: what follows moves down, its keys rotated to the new places.
  /// Keys and values were computed in sight of what is gone, so the result is close to, not the same as, computing the
  /// shorter sequence. False, and nothing changed, where a sliding layer no longer holds what it would need.
  bool cut(nn::KvCache& cache, std::int64_t begin, std::int64_t count) const;
  const Config& config() const { return config_; }
  at::ScalarType dtype() const { return embed_tokens_->weight.scalar_type(); }
  at::Device device() const { return embed_tokens_->weight.device(); }

  /// Gives a tied head a weight of its own, which shares the embedding's memory until one of them is replaced.
  void untie();
  void set_head_weight(const at::Tensor& weight) { lm_head_->weight.set_data(weight); }
  /// Lets a tied head compute with the embedding's quantised weight, where that has one.
  void share_quantised();
  bool is_quantised() const { return embed_tokens_->quantised() != nullptr; }

 private:
  Angles angles(const std::vector<std::int64_t>& positions) const;

  Config config_;
  nn::CacheFormat cache_format_ = nn::CacheFormat::full;
  nn::Rope rope_, local_rope_;
  std::shared_ptr<nn::Embedding> embed_tokens_;
  std::vector<std::shared_ptr<DecoderLayer>> layers_;
  std::shared_ptr<nn::RmsNorm> norm_;
  std::shared_ptr<nn::Linear> lm_head_;  ///< tied: without a weight of its own
};

/// Bytes of the key/value cache of one sequence of so many positions, numbers of type `dtype` where the format is full.
std::int64_t cache_bytes(const Config& config, std::int64_t positions, at::ScalarType dtype,
                         nn::CacheFormat format = nn::CacheFormat::full);

}  // namespace atelier::models::gemma
