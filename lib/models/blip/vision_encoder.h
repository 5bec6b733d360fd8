#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/blip/config.h"
#include "nn/conv.h"

namespace atelier::models::blip {

/// The vision tower of BLIP, a plain ViT; names as in transformers' BlipVisionModel.
/// Reference: BLIP: Bootstrapping Language-Image Pre-training (arXiv:2201.12086).
class VisionEncoder : public nn::Module {
 public:
  explicit VisionEncoder(const VisionConfig& config);

  /// (B, 3, image_size, image_size), normalised -> (B, patches + 1, hidden): all tokens after the last layer norm, the class
  /// token first.
  at::Tensor forward(const at::Tensor& pictures) const;

 private:
  class Embeddings;
  class Layer;
  std::shared_ptr<Embeddings> embeddings_;
  std::vector<std::shared_ptr<Layer>> layers_;
  std::shared_ptr<nn::LayerNorm> post_layernorm_;
};

}  // namespace atelier::models::blip
