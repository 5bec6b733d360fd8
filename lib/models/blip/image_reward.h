#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "models/blip/config.h"
#include "nn/linear.h"

namespace atelier::models::blip {

class TextEncoder;
class VisionEncoder;

/// ImageReward (arXiv:2304.05977): BLIP's text tower reads a text and its picture together, and linear maps, one after another without
/// anything between them, make a number of its first token. Names are those of transformers' BlipForImageTextRetrieval
/// (`vision_model....`, `text_encoder....`), and the package's own for the head (`mlp.layers.0.weight`).
class ImageRewardNetwork : public nn::Module {
 public:
  explicit ImageRewardNetwork(const Config& config);

  /// (B, 3, image_size, image_size), normalised -> (B, patches + 1, hidden).
  at::Tensor see(const at::Tensor& pictures) const;

  /// ids: (B, T), [CLS] first and without padding; seen: what see() made of the pictures -> (B), in f32. Of mean 0 and deviation 1
  /// on the pictures that the published weights were made with.
  at::Tensor reward(const at::Tensor& ids, const at::Tensor& seen) const;

  const Config& config() const { return config_; }
  at::ScalarType dtype() const { return head_.front()->weight.scalar_type(); }
  at::Device device() const { return head_.front()->weight.device(); }

 private:
  Config config_;
  std::shared_ptr<VisionEncoder> vision_model_;
  std::shared_ptr<TextEncoder> text_encoder_;
  std::vector<std::shared_ptr<nn::Linear>> head_;
};

}  // namespace atelier::models::blip
