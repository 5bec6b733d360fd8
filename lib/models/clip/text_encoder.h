#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "nn/conv.h"
#include "nn/linear.h"

namespace atelier::models::clip {

/// Everything that the text tower's forward pass needs, decided once from config.json.
struct TextConfig {
  std::int64_t vocab_size = 49408, hidden_size = 512, intermediate_size = 2048, layers = 12, heads = 8;
  std::int64_t max_positions = 77;  ///< longest sequence, 77 in every published model
  double norm_eps = 1e-5;
  nn::Activation activation = nn::Activation::quick_gelu;
  std::int64_t eos_token_id = 49407;  ///< 2 in old configurations, which means: the largest id of the row
  std::int64_t projection_dim = 0;    ///< of text_projection; 0: the model has none (CLIPTextModel)
};

/// Reads config.json of transformers' CLIPTextModel or CLIPTextModelWithProjection (`architectures` tells which), or the
/// text_config of a whole CLIPModel. Every field is range-checked; Error(data) names the field, and a value that would
/// change results and is not known. `what` names the file in errors.
TextConfig parse_text_config(const base::Json& json, const std::string& what);

/// What one pass over B sequences of T tokens gives.
struct TextOutput {
  at::Tensor last_hidden;  ///< (B, T, hidden): the last layer's output after the final layer norm
  std::vector<at::Tensor>
      hidden_states;       ///< layers + 1 of (B, T, hidden): the embeddings, then each layer's output, none
                           ///< normalised; SDXL takes hidden_states[layers - 1]
  at::Tensor pooled;       ///< (B, hidden): last_hidden at the end-of-text token
  at::Tensor text_embeds;  ///< (B, projection_dim): pooled, projected; undefined without a projection
};

class EncoderLayer;

/// The text tower of CLIP: ViT-L, OpenCLIP's ViT-H and ViT-bigG, and any other size; names as in transformers'
/// CLIPTextModel (`text_model....`, `text_projection.weight`).
/// Reference: Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020).
class TextEncoder : public nn::Module {
 public:
  explicit TextEncoder(const TextConfig& config);

  /// ids: (B, T) int64, T at most max_positions, every row with its end-of-text token. `embeddings`, where defined, are
  /// (B, T, hidden) and stand in place of the table's rows (textual inversion); `ids` still tell where the text ends. On
  /// the CPU, without gradients, a row's result is the same bit for bit whatever rows are beside it. `checkpointing`: for
  /// training, keep only what the layers are given, and compute them again in the backward pass.
  /// Error(data) for ids outside the table where the table is used.
  TextOutput forward(const at::Tensor& ids, const at::Tensor& embeddings = {}, bool checkpointing = false) const;

  /// Rows of the token table, (B, T, hidden), without positions: what `embeddings` begins as.
  at::Tensor embed_tokens(const at::Tensor& ids) const;

  /// The hidden state that a UNet attends to, (B, T, hidden): the output of the `skip`-th layer from the end (A1111's clip-skip: 1
  /// is the last), `normed` as Stable Diffusion 1 and 2 take it, plain as SDXL does. Precondition: check_skip.
  at::Tensor context(const TextOutput& output, std::int64_t skip, bool normed) const;

  /// The final layer norm, for a hidden state that is not the last (clip-skip). (..., hidden), same shape.
  at::Tensor final_norm(const at::Tensor& hidden) const;

  const TextConfig& config() const { return config_; }
  at::ScalarType dtype() const { return token_embedding_->scalar_type(); }
  at::Device device() const { return token_embedding_->device(); }

 private:
  TextOutput forward_rows(const at::Tensor& ids, const at::Tensor& embeddings, bool checkpointing = false) const;
  at::Tensor end_of_text(const at::Tensor& ids) const;

  TextConfig config_;
  const at::Tensor* token_embedding_;     // (vocab, hidden)
  const at::Tensor* position_embedding_;  // (max_positions, hidden)
  std::vector<std::shared_ptr<EncoderLayer>> layers_;
  std::shared_ptr<nn::LayerNorm> final_layer_norm_;
  std::shared_ptr<nn::Linear> text_projection_;
};

/// Error(usage) for a clip-skip that is not between 1 and the number of layers.
void check_skip(const TextConfig& config, std::int64_t skip);

/// Marks what a text encoder leaves alone on purpose: the stored positions 0..76 of old files.
void note_ignored(io::WeightSource& source);

}  // namespace atelier::models::clip
