#include "models/clip/text_encoder.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include "models/clip/encoder_layer.h"
#include "nn/checkpoint.h"

namespace atelier::models::clip {
namespace {

using nn::Group;
using nn::LayerNorm;
using nn::Linear;

class Embedding : public nn::Module {
 public:
  Embedding(std::int64_t count, std::int64_t size) {
    weight = register_parameter("weight", nn::placeholder({count, size}), /*requires_grad=*/false);
  }
  at::Tensor weight;
};

}  // namespace

TextEncoder::TextEncoder(const TextConfig& c) : config_(c) {
  auto text_model = register_module("text_model", std::make_shared<Group>());
  auto embeddings = text_model->register_module("embeddings", std::make_shared<Group>());
  token_embedding_ =
      &embeddings->register_module("token_embedding", std::make_shared<Embedding>(c.vocab_size, c.hidden_size))->weight;
  position_embedding_ =
      &embeddings->register_module("position_embedding", std::make_shared<Embedding>(c.max_positions, c.hidden_size))
           ->weight;
  auto encoder = text_model->register_module("encoder", std::make_shared<Group>());
  auto layers = encoder->register_module("layers", std::make_shared<Group>());
  const LayerConfig layer{c.hidden_size, c.intermediate_size, c.heads, c.norm_eps, c.activation, /*causal=*/true};
  for (std::int64_t i = 0; i < c.layers; ++i) layers_.push_back(layers->append(std::make_shared<EncoderLayer>(layer)));
  final_layer_norm_ =
      text_model->register_module("final_layer_norm", std::make_shared<LayerNorm>(c.hidden_size, c.norm_eps));
  if (c.projection_dim > 0)
    text_projection_ = register_module("text_projection", std::make_shared<Linear>(c.hidden_size, c.projection_dim));
}

at::Tensor TextEncoder::embed_tokens(const at::Tensor& ids) const {
  if (ids.numel() > 0 && (ids.min().item<std::int64_t>() < 0 || ids.max().item<std::int64_t>() >= config_.vocab_size))
    throw base::Error(base::ExitCode::data,
                      fmt::format("a token id lies outside the text encoder's vocabulary of {}: the "
                                  "tokenizer belongs to another model",
                                  config_.vocab_size));
  return at::embedding(*token_embedding_, ids);
}

at::Tensor TextEncoder::final_norm(const at::Tensor& hidden) const { return final_layer_norm_->forward(hidden); }

at::Tensor TextEncoder::context(const TextOutput& output, std::int64_t skip, bool normed) const {
  if (normed && skip == 1) return output.last_hidden;
  const at::Tensor& hidden = output.hidden_states[static_cast<std::size_t>(config_.layers + 1 - skip)];
  return normed ? final_norm(hidden) : hidden;
}

at::Tensor TextEncoder::end_of_text(const at::Tensor& ids) const {
  // Configurations of before transformers 4.30 say 2 and mean <|endoftext|>, which has the largest id of the vocabulary.
  if (config_.eos_token_id == 2) return ids.argmax(-1);
  return (ids == config_.eos_token_id).to(at::kInt).argmax(-1);
}

TextOutput TextEncoder::forward_rows(const at::Tensor& ids, const at::Tensor& embeddings, bool checkpointing) const {
  auto x = embeddings.defined() ? embeddings : embed_tokens(ids);  // (B, T, hidden)
  x = x + position_embedding_->narrow(0, 0, ids.size(1)).unsqueeze(0);
  TextOutput out;
  out.hidden_states.push_back(x);
  for (const auto& layer : layers_) {
    const auto work = [layer](const at::Tensor& in) { return layer->forward(in); };
    x = checkpointing ? nn::checkpoint(work, x, nn::trained_tensors(*layer)) : work(x);
    out.hidden_states.push_back(x);
  }
  out.last_hidden = final_norm(x);
  const auto rows = at::arange(ids.size(0), ids.options());
  out.pooled = out.last_hidden.index({rows, end_of_text(ids)});  // (B, hidden)
  if (text_projection_) out.text_embeds = text_projection_->forward(out.pooled);
  return out;
}

TextOutput TextEncoder::forward(const at::Tensor& ids, const at::Tensor& embeddings, bool checkpointing) const {
  if (ids.dim() != 2 || ids.size(1) < 1 || ids.size(1) > config_.max_positions)
    throw base::Error(base::ExitCode::data, fmt::format("a text encoder of {} positions cannot take {} tokens",
                                                        config_.max_positions, ids.dim() == 2 ? ids.size(1) : 0));
  if (ids.size(0) == 1 || !ids.device().is_cpu() || at::GradMode::is_enabled())
    return forward_rows(ids, embeddings, checkpointing);
  std::vector<TextOutput> rows;  // row by row: LibTorch's products round by the number of rows
  for (std::int64_t i = 0; i < ids.size(0); ++i)
    rows.push_back(forward_rows(ids.narrow(0, i, 1), embeddings.defined() ? embeddings.narrow(0, i, 1) : at::Tensor()));
  const auto join = [&](auto part) {
    std::vector<at::Tensor> parts;
    for (const auto& row : rows) parts.push_back(part(row));
    return at::cat(parts, 0);
  };
  TextOutput out;
  out.last_hidden = join([](const TextOutput& row) { return row.last_hidden; });
  for (std::size_t i = 0; i <= layers_.size(); ++i)
    out.hidden_states.push_back(join([i](const TextOutput& row) { return row.hidden_states[i]; }));
  out.pooled = join([](const TextOutput& row) { return row.pooled; });
  if (text_projection_) out.text_embeds = join([](const TextOutput& row) { return row.text_embeds; });
  return out;
}

void check_skip(const TextConfig& config, std::int64_t skip) {
  if (skip >= 1 && skip <= config.layers) return;
  throw base::Error(base::ExitCode::usage,
                    fmt::format("--clip-skip {}: this model's text encoder has {} layers", skip, config.layers));
}

void note_ignored(io::WeightSource& source) {
  for (const std::string& name : source.names())
    if (name.ends_with("embeddings.position_ids")) source.note_used(name);
}

}  // namespace atelier::models::clip
