// The forward pass of training: whole documents with autograd. The layers are those of generation.
#include <algorithm>
#include <numeric>

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include "models/gemma/model.h"
#include "nn/checkpoint.h"
#include "nn/cross_entropy.h"
#include "nn/document_attention.h"

namespace atelier::models::gemma {
namespace {

std::vector<std::int64_t> positions_of(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int64_t> positions;
  for (const std::int64_t length : lengths) {
    positions.resize(positions.size() + static_cast<std::size_t>(length));
    std::iota(positions.end() - length, positions.end(), 0);
  }
  return positions;
}

/// Layers whose products `recompute` has room for.
std::int64_t layers_with_products(const Config& config, const Recompute& recompute, const at::Tensor& x) {
  const auto device = x.device().type();
  const auto dtype =
      at::autocast::is_autocast_enabled(device) ? at::autocast::get_autocast_dtype(device) : x.scalar_type();
  const auto bytes = x.size(0) * product_bytes(config, static_cast<std::int64_t>(c10::elementSize(dtype)));
  return bytes == 0 ? 0 : static_cast<std::int64_t>(recompute.kept_bytes / static_cast<std::uint64_t>(bytes));
}

}  // namespace

std::int64_t product_bytes(const Config& c, std::int64_t element_size) {
  return ((c.heads + 2 * c.kv_heads) * c.head_dim + 2 * c.intermediate_size + 2 * c.hidden_size) * element_size;
}

at::Tensor CausalLm::forward(const Documents& documents, const Recompute& recompute) const {
  const Angles turned = angles(positions_of(documents.lengths));
  // By value: a block that is computed again must still find them.
  const Attend attend = [lengths = documents.lengths](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      const nn::AttentionSpec& spec) {
    return nn::attend_documents(q, k, v, lengths, spec);
  };
  auto x = embed_tokens_->forward(documents.tokens);  // (N, hidden)
  // The last layers keep them: theirs are the first to be let go.
  auto without_products = static_cast<std::int64_t>(layers_.size()) - layers_with_products(config_, recompute, x);
  for (const auto& layer : layers_) {
    if (!recompute.layers) {
      x = layer->forward(x, turned, attend);
      continue;
    }
    const auto block = [layer, turned, attend](const at::Tensor& input) {
      return layer->forward(input, turned, attend);
    };
    x = nn::checkpoint(block, x, nn::trained_tensors(*layer), /*keep=*/without_products-- <= 0);
  }
  return norm_->forward(x);
}

at::Tensor CausalLm::embed(const at::Tensor& tokens) const { return embed_tokens_->forward(tokens); }

at::Tensor CausalLm::run_layer(std::size_t layer, const at::Tensor& x, const std::vector<std::int64_t>& lengths) const {
  const Attend attend = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const nn::AttentionSpec& spec) {
    return nn::attend_documents(q, k, v, lengths, spec);
  };
  return layers_[layer]->forward(x, angles(positions_of(lengths)), attend);
}

at::Tensor CausalLm::loss(const at::Tensor& hidden, const at::Tensor& targets, std::int64_t rows) const {
  nn::Head output{.logits = [this](const at::Tensor& x) { return lm_head_->forward(x); },
                  .parameters = nn::trained_tensors(*lm_head_),
                  .softcap = config_.final_softcap};
  // A tied head's weight is the embedding's: no parameter of its own.
  if (config_.tied_head && lm_head_->weight.requires_grad()) output.parameters.push_back(lm_head_->weight);
  return nn::cross_entropy_sum(hidden, targets, output, rows > 0 ? rows : nn::cross_entropy_rows(config_.vocab_size));
}

}  // namespace atelier::models::gemma
