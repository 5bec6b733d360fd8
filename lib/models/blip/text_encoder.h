#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/blip/config.h"
#include "nn/conv.h"
#include "nn/embedding.h"

namespace atelier::models::blip {

/// The text tower of BLIP as an encoder grounded in a picture: BERT whose layers attend to the picture's tokens after their own;
/// names as in transformers' BlipTextModel without its pooler.
class TextEncoder : public nn::Module {
 public:
  explicit TextEncoder(const TextConfig& config);

  /// ids: (B, T) int64, T at most max_positions, rows without padding; pictures: (B, P, picture_size) -> (B, T, hidden).
  /// Error(data) for ids outside the table.
  at::Tensor forward(const at::Tensor& ids, const at::Tensor& pictures) const;

 private:
  class Layer;
  TextConfig config_;
  std::shared_ptr<nn::Embedding> words_, positions_;
  std::shared_ptr<nn::LayerNorm> norm_;
  std::vector<std::shared_ptr<Layer>> layers_;
};

}  // namespace atelier::models::blip
