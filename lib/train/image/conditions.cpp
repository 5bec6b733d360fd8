#include "train/image/conditions.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include "text/prompt_chunks.h"

namespace atelier::train::image {
namespace {

std::vector<text::PromptPart> parts_of(const std::string& caption) {
  if (caption.empty()) return {};
  return {{caption, 1, false}};
}

std::vector<text::EmbeddingName> names_of(const std::vector<TrainedToken>& tokens, std::size_t place) {
  std::vector<text::EmbeddingName> names;
  for (const TrainedToken& token : tokens) names.push_back({token.name, token.vectors[place].size(0)});
  return names;
}

}  // namespace

/// The captions' tokens, and where vectors of trained ones take their places.
struct TextConditioner::Rows {
  at::Tensor ids;                           ///< (B, T) int64
  std::vector<std::int64_t> row, position;  ///< of each vector
  std::vector<at::Tensor> vectors;          ///< (hidden)
};

TextConditioner::TextConditioner(std::vector<TextTower> towers, bool xl, std::optional<std::int64_t> clip_skip,
                                 std::vector<TrainedToken> tokens)
    : towers_(std::move(towers)), xl_(xl), skip_(clip_skip.value_or(xl ? 2 : 1)), tokens_(std::move(tokens)) {
  for (const TextTower& tower : towers_) models::clip::check_skip(tower.network->config(), skip_);
}

TextConditioner::Rows TextConditioner::rows_of(const TextTower& tower, std::size_t place,
                                               const std::vector<std::string>& captions) const {
  const auto names = names_of(tokens_, place);
  const std::int64_t length = tower.tokenizer->max_length();
  Rows rows{.ids = at::empty({static_cast<std::int64_t>(captions.size()), length}, at::kLong),
            .row = {},
            .position = {},
            .vectors = {}};
  auto* ids = rows.ids.mutable_data_ptr<std::int64_t>();
  for (std::size_t i = 0; i < captions.size(); ++i) {
    const auto chunk = text::chunk_prompt(*tower.tokenizer, parts_of(captions[i]), names).front();
    std::copy(chunk.ids.begin(), chunk.ids.end(), ids + static_cast<std::int64_t>(i) * length);
    for (const text::EmbeddedToken& token : chunk.embedded) {
      rows.row.push_back(static_cast<std::int64_t>(i));
      rows.position.push_back(static_cast<std::int64_t>(token.position));
      rows.vectors.push_back(tokens_[token.embedding].vectors[place][token.row]);
    }
  }
  return rows;
}

Condition TextConditioner::encode(const std::vector<std::string>& captions, bool checkpointing) const {
  Condition condition;
  std::vector<at::Tensor> contexts;
  for (std::size_t i = 0; i < towers_.size(); ++i) {
    const auto& network = *towers_[i].network;
    const Rows rows = rows_of(towers_[i], i, captions);
    const at::Tensor ids = rows.ids.to(network.device());
    at::Tensor embeddings;  // (B, T, hidden), where there are trained tokens
    if (!rows.vectors.empty()) {
      const auto plain = network.embed_tokens(ids.clamp_max(towers_[i].tokenizer->size() - 1));
      const auto places = [&](const std::vector<std::int64_t>& v) { return at::tensor(v, at::kLong).to(ids.device()); };
      embeddings = plain.index_put({places(rows.row), places(rows.position)},
                                   at::stack(rows.vectors).to(plain.scalar_type()));
    }
    const auto output = network.forward(ids, embeddings, checkpointing);
    contexts.push_back(network.context(output, skip_, /*normed=*/!xl_));
    if (xl_ && i + 1 == towers_.size()) condition.pooled = output.text_embeds;
  }
  condition.context = at::cat(contexts, -1);
  return condition;
}

bool TextConditioner::names_tokens(const std::string& caption) const {
  if (tokens_.empty()) return true;
  const auto chunks = text::chunk_prompt(*towers_.front().tokenizer, parts_of(caption), names_of(tokens_, 0));
  return std::all_of(tokens_.begin(), tokens_.end(), [&](const TrainedToken& token) {
    const auto index = static_cast<std::size_t>(&token - tokens_.data());
    return std::any_of(chunks.front().embedded.begin(), chunks.front().embedded.end(),
                       [&](const text::EmbeddedToken& e) { return e.embedding == index; });
  });
}

}  // namespace atelier::train::image
