#include "pipelines/prompt_encoding.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace atelier::pipelines {
namespace {

using text::PromptChunk;

struct EncoderInput {
  const ImageTextEncoder& encoder;
  std::size_t place = 0;  ///< among the model's text encoders
};

/// The embeddings that serve one encoder, under all of their names.
struct Embeddings {
  std::vector<text::EmbeddingName> names;
  std::vector<at::Tensor> vectors;  ///< by name
};

Embeddings embeddings_of(const PromptEncodingOptions& options, std::size_t encoder) {
  Embeddings found;
  for (const auto& embedding : options.embeddings) {
    if (encoder >= embedding->vectors.size() || !embedding->vectors[encoder].defined()) continue;
    for (const std::string& name : embedding->names) {
      found.names.push_back({name, embedding->vectors[encoder].size(0)});
      found.vectors.push_back(embedding->vectors[encoder]);
    }
  }
  return found;
}

/// (chunks, tokens) int64 on the encoder's device.
at::Tensor ids_of(const std::vector<PromptChunk>& chunks, at::Device device) {
  const auto length = static_cast<std::int64_t>(chunks.front().ids.size());
  at::Tensor ids = at::empty({static_cast<std::int64_t>(chunks.size()), length}, at::kLong);
  for (std::size_t row = 0; row < chunks.size(); ++row)
    std::copy(chunks[row].ids.begin(), chunks[row].ids.end(),
              ids.data_ptr<std::int64_t>() + static_cast<std::int64_t>(row) * length);
  return ids.to(device);
}

models::clip::TextOutput forward(const EncoderInput& input, const std::vector<PromptChunk>& chunks,
                                 const Embeddings& embeddings) {
  const auto& network = *input.encoder.network;
  const at::Tensor ids = ids_of(chunks, network.device());
  const bool embedded =
      std::any_of(chunks.begin(), chunks.end(), [](const PromptChunk& chunk) { return !chunk.embedded.empty(); });
  if (!embedded) return network.forward(ids);
  const std::int64_t largest = input.encoder.tokenizer->size() - 1;
  at::Tensor rows = network.embed_tokens(ids.clamp_max(largest)).clone();  // (chunks, tokens, hidden)
  for (std::size_t i = 0; i < chunks.size(); ++i)
    for (const text::EmbeddedToken& token : chunks[i].embedded)
      rows[static_cast<std::int64_t>(i)][static_cast<std::int64_t>(token.position)].copy_(
          embeddings.vectors[token.embedding][token.row]);
  return network.forward(ids, rows);
}

/// The hidden state that the UNet attends to, (chunks, tokens, hidden).
at::Tensor hidden_of(const ImageModel& model, const EncoderInput& input, const models::clip::TextOutput& output,
                     std::optional<std::int64_t> clip_skip) {
  const std::int64_t skip = clip_skip.value_or(model.is_xl() ? 2 : 1);
  models::clip::check_skip(input.encoder.network->config(), skip);
  return input.encoder.network->context(output, skip, /*normed=*/!model.is_xl());
}

/// (chunks, tokens, 1) in z's dtype.
at::Tensor weights_of(const std::vector<PromptChunk>& chunks, const at::Tensor& z) {
  at::Tensor weights = at::empty({z.size(0), z.size(1), 1}, at::kDouble);
  for (std::size_t row = 0; row < chunks.size(); ++row)
    std::copy(chunks[row].weights.begin(), chunks[row].weights.end(),
              weights.data_ptr<double>() + static_cast<std::int64_t>(row) * z.size(1));
  return weights.to(z.device(), z.scalar_type());
}

at::Tensor restore_means(const at::Tensor& z, const at::Tensor& weights) {
  const at::Tensor weighted = z * weights;
  const at::Tensor before = z.mean({1, 2}, true), after = weighted.mean({1, 2}, true);
  return at::where(after != 0, weighted * (before / after), weighted);
}

struct Encoded {
  at::Tensor hidden;  ///< (chunks, tokens, hidden)
  at::Tensor pooled;  ///< (1, projection), or undefined
};

Encoded encode_with(const ImageModel& model, const EncoderInput& input, const std::vector<PromptChunk>& chunks,
                    const Embeddings& embeddings, const PromptEncodingOptions& options) {
  const auto output = forward(input, chunks, embeddings);
  Encoded encoded{hidden_of(model, input, output, options.clip_skip), {}};
  if (output.text_embeds.defined()) encoded.pooled = output.text_embeds.narrow(0, 0, 1);
  const bool weighted = std::any_of(chunks.begin(), chunks.end(), [](const auto& chunk) { return chunk.weighted(); });
  if (!weighted) return encoded;
  const at::Tensor weights = weights_of(chunks, encoded.hidden);
  if (options.weighting == Weighting::a1111) {
    encoded.hidden = restore_means(encoded.hidden, weights);
  } else {
    const std::vector<PromptChunk> nothing = {text::empty_chunk(*input.encoder.tokenizer)};
    const at::Tensor empty = hidden_of(model, input, forward(input, nothing, {}), options.clip_skip);
    encoded.hidden = (encoded.hidden - empty) * weights + empty;
  }
  return encoded;
}

std::vector<text::PromptPart> parts_of(std::string_view prompt, Weighting weighting,
                                       std::vector<std::string>& warnings) {
  if (weighting != Weighting::none) return text::parse_emphasis(prompt, warnings);
  if (prompt.empty()) return {};
  return {{std::string(prompt), 1, false}};
}

/// (chunks, tokens, hidden) as one sequence.
at::Tensor in_a_row(const at::Tensor& hidden) { return hidden.reshape({1, -1, hidden.size(2)}); }

std::int64_t count_tokens(const std::vector<PromptChunk>& chunks, const text::ClipTokenizer& tokenizer) {
  std::int64_t count = 0;
  for (const PromptChunk& chunk : chunks)
    count += std::find(chunk.ids.begin() + 1, chunk.ids.end(), tokenizer.eos()) - chunk.ids.begin() - 1;
  return count;
}

}  // namespace

Conditioning encode_prompt(const ImageModel& model, std::string_view prompt, const PromptEncodingOptions& options,
                           std::vector<std::string>& warnings) {
  const at::NoGradGuard no_grad;
  const auto parts = parts_of(prompt, options.weighting, warnings);
  std::vector<Embeddings> embeddings;
  std::vector<std::vector<PromptChunk>> chunks;
  std::size_t most = 0;
  for (std::size_t i = 0; i < model.text_encoders.size(); ++i) {
    embeddings.push_back(embeddings_of(options, i));
    chunks.push_back(text::chunk_prompt(*model.text_encoders[i].tokenizer, parts, embeddings.back().names));
    most = std::max(most, chunks.back().size());
  }
  Conditioning result;
  result.tokens = count_tokens(chunks.front(), *model.text_encoders.front().tokenizer);
  std::vector<at::Tensor> contexts;
  for (std::size_t i = 0; i < model.text_encoders.size(); ++i) {
    // The two tokenizers of SDXL may need different numbers of chunks.
    chunks[i].resize(most, text::empty_chunk(*model.text_encoders[i].tokenizer));
    const Encoded encoded = encode_with(model, {model.text_encoders[i], i}, chunks[i], embeddings[i], options);
    contexts.push_back(in_a_row(encoded.hidden));
    if (model.is_xl() && i + 1 == model.text_encoders.size()) result.pooled = encoded.pooled;
  }
  result.context = at::cat(contexts, -1).to(model.device(), model.dtype());
  if (result.pooled.defined()) result.pooled = result.pooled.to(model.device(), model.dtype());
  return result;
}

Conditioning zero_conditioning(const Conditioning& like) {
  Conditioning zeros;
  zeros.context = at::zeros_like(like.context);
  if (like.pooled.defined()) zeros.pooled = at::zeros_like(like.pooled);
  return zeros;
}

}  // namespace atelier::pipelines
