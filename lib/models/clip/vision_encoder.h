#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "nn/conv.h"
#include "nn/linear.h"

namespace atelier::models::clip {

/// Everything that the vision tower's forward pass needs, decided once from config.json.
struct VisionConfig {
  std::int64_t hidden_size = 768, intermediate_size = 3072, layers = 12, heads = 12;
  std::int64_t image_size = 224, patch_size = 32;  ///< pixels; what is left of the size after whole patches is not seen
  double norm_eps = 1e-5;
  nn::Activation activation = nn::Activation::quick_gelu;
  std::int64_t projection_dim = 512;  ///< of visual_projection

  std::int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
};

/// Reads the vision_config of a CLIPModel's config.json, or that of a CLIPVisionModelWithProjection. Every field is range-checked;
/// Error(data) names the field. `what` names the file in errors.
VisionConfig parse_vision_config(const base::Json& json, const std::string& what);

class EncoderLayer;

/// The vision tower of CLIP with its projection: ViT-B, ViT-L, OpenCLIP's ViT-H and any other size; names as in transformers'
/// CLIPModel (`vision_model....`, `visual_projection.weight`).
/// Reference: Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020).
class VisionEncoder : public nn::Module {
 public:
  explicit VisionEncoder(const VisionConfig& config);

  /// (B, 3, image_size, image_size), normalised -> (B, projection_dim): the class token after the last layer norm, projected.
  at::Tensor forward(const at::Tensor& pictures) const;

  const VisionConfig& config() const { return config_; }
  at::ScalarType dtype() const { return visual_projection_->weight.scalar_type(); }
  at::Device device() const { return visual_projection_->weight.device(); }

 private:
  class Embeddings;
  VisionConfig config_;
  std::shared_ptr<Embeddings> embeddings_;
  std::shared_ptr<nn::LayerNorm> pre_layer_norm_, post_layer_norm_;
  std::vector<std::shared_ptr<EncoderLayer>> layers_;
  std::shared_ptr<nn::Linear> visual_projection_;
};

}  // namespace atelier::models::clip
