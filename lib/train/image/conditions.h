#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/clip/text_encoder.h"
#include "text/clip_tokenizer.h"

namespace atelier::train::image {

/// One of a model's text encoders.
struct TextTower {
  std::shared_ptr<const text::ClipTokenizer> tokenizer;
  std::shared_ptr<models::clip::TextEncoder> network;
};

/// A token of textual inversion (Gal and others 2022, arXiv:2208.01618): what stands in captions by this name is these vectors.
struct TrainedToken {
  std::string name;
  std::vector<at::Tensor> vectors;  ///< by text encoder, (vectors, hidden) f32
};

/// What the UNet is told of B captions.
struct Condition {
  at::Tensor context;  ///< (B, T, context size)
  at::Tensor pooled;   ///< SDXL: (B, projection); undefined otherwise
};

/// Captions as training takes them: plain text, the first max_length - 2 tokens, as diffusers' training scripts do.
class TextConditioner {
 public:
  /// `xl`: SDXL's way (the last layer but one, no final norm, the last encoder's projection). `clip_skip`: A1111's count;
  /// left out, the family's. Error(usage) for a clip-skip beyond the encoders' layers.
  TextConditioner(std::vector<TextTower> towers, bool xl, std::optional<std::int64_t> clip_skip = {},
                  std::vector<TrainedToken> tokens = {});

  /// Gradients, where they are on, reach the encoders and the tokens. `checkpointing`: see models::clip::TextEncoder.
  Condition encode(const std::vector<std::string>& captions, bool checkpointing = false) const;

  /// Whether this caption names every trained token.
  bool names_tokens(const std::string& caption) const;

 private:
  struct Rows;
  Rows rows_of(const TextTower& tower, std::size_t place, const std::vector<std::string>& captions) const;

  std::vector<TextTower> towers_;
  bool xl_;
  std::int64_t skip_;
  std::vector<TrainedToken> tokens_;
};

}  // namespace atelier::train::image
