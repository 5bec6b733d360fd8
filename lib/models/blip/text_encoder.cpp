#include "models/blip/text_encoder.h"

#include <fmt/format.h>

#include "base/error.h"
#include "nn/linear.h"

namespace atelier::models::blip {

using nn::Group;
using nn::LayerNorm;
using nn::Linear;

namespace {

/// BERT's attention with the residual connection and layer norm that follow it.
class Attention : public nn::Module {
 public:
  Attention(const TextConfig& c, std::int64_t seen_size) : heads_(c.heads) {
    const auto self = register_module("self", std::make_shared<Group>());
    const auto linear = [&](const char* name, std::int64_t in) {
      return self->register_module(name, std::make_shared<Linear>(in, c.hidden_size, true));
    };
    query_ = linear("query", c.hidden_size);
    key_ = linear("key", seen_size);
    value_ = linear("value", seen_size);
    const auto output = register_module("output", std::make_shared<Group>());
    dense_ = output->register_module("dense", std::make_shared<Linear>(c.hidden_size, c.hidden_size, true));
    norm_ = output->register_module("LayerNorm", std::make_shared<LayerNorm>(c.hidden_size, c.norm_eps));
  }

  /// x: (B, T, hidden) looks at `seen`: (B, S, seen_size).
  at::Tensor forward(const at::Tensor& x, const at::Tensor& seen) const {
    const auto found = nn::multi_head_attention(query_->forward(x), key_->forward(seen), value_->forward(seen), heads_);
    return norm_->forward(dense_->forward(found) + x);
  }

 private:
  std::int64_t heads_;
  std::shared_ptr<Linear> query_, key_, value_, dense_;
  std::shared_ptr<LayerNorm> norm_;
};

}  // namespace

/// One post-norm layer: to the text, to the picture, then the two linear maps.
class TextEncoder::Layer : public nn::Module {
 public:
  explicit Layer(const TextConfig& c) : activation_(c.activation) {
    attention_ = register_module("attention", std::make_shared<Attention>(c, c.hidden_size));
    crossattention_ = register_module("crossattention", std::make_shared<Attention>(c, c.picture_size));
    const auto intermediate = register_module("intermediate", std::make_shared<Group>());
    wide_ = intermediate->register_module("dense", std::make_shared<Linear>(c.hidden_size, c.intermediate_size, true));
    const auto output = register_module("output", std::make_shared<Group>());
    narrow_ = output->register_module("dense", std::make_shared<Linear>(c.intermediate_size, c.hidden_size, true));
    norm_ = output->register_module("LayerNorm", std::make_shared<LayerNorm>(c.hidden_size, c.norm_eps));
  }

  at::Tensor forward(const at::Tensor& x, const at::Tensor& pictures) const {  // (B, T, hidden), same shape
    const auto h = crossattention_->forward(attention_->forward(x, x), pictures);
    return norm_->forward(narrow_->forward(nn::activate(activation_, wide_->forward(h))) + h);
  }

 private:
  nn::Activation activation_;
  std::shared_ptr<Attention> attention_, crossattention_;
  std::shared_ptr<Linear> wide_, narrow_;
  std::shared_ptr<LayerNorm> norm_;
};

TextEncoder::TextEncoder(const TextConfig& c) : config_(c) {
  const auto embeddings = register_module("embeddings", std::make_shared<Group>());
  const auto table = [&](const char* name, std::int64_t count) {
    return embeddings->register_module(name, std::make_shared<nn::Embedding>(count, c.hidden_size));
  };
  words_ = table("word_embeddings", c.vocab_size);
  positions_ = table("position_embeddings", c.max_positions);
  norm_ = embeddings->register_module("LayerNorm", std::make_shared<LayerNorm>(c.hidden_size, c.norm_eps));
  const auto encoder = register_module("encoder", std::make_shared<Group>());
  const auto layers = encoder->register_module("layer", std::make_shared<Group>());
  for (std::int64_t i = 0; i < c.layers; ++i) layers_.push_back(layers->append(std::make_shared<Layer>(c)));
}

at::Tensor TextEncoder::forward(const at::Tensor& ids, const at::Tensor& pictures) const {
  if (ids.size(1) < 1 || ids.size(1) > config_.max_positions)
    throw base::Error(base::ExitCode::data, fmt::format("a text encoder of {} positions cannot take {} tokens",
                                                        config_.max_positions, ids.size(1)));
  if (ids.min().item<std::int64_t>() < 0 || ids.max().item<std::int64_t>() >= config_.vocab_size)
    throw base::Error(base::ExitCode::data,
                      fmt::format("a token id lies outside the text encoder's vocabulary of {}: the tokenizer belongs "
                                  "to another model",
                                  config_.vocab_size));
  auto x = norm_->forward(words_->forward(ids) + positions_->weight.narrow(0, 0, ids.size(1)));  // (B, T, hidden)
  for (const auto& layer : layers_) x = layer->forward(x, pictures);
  return x;
}

}  // namespace atelier::models::blip
