#pragma once

#include <memory>
#include <vector>

#include "models/unet/config.h"
#include "models/unet/input.h"
#include "nn/conv.h"
#include "nn/linear.h"

namespace atelier::models::unet {

class TimestepEmbedding;
class DownBlock;
class MidBlock;
class UpBlock;

/// UNet2DConditionModel: Stable Diffusion 1.x, 2.x, SDXL base and refiner, their inpainting variants; names as in diffusers.
/// References: Latent Diffusion (arXiv:2112.10752), SDXL (arXiv:2307.01952).
class UNet : public nn::Module {
 public:
  explicit UNet(const Config& config);

  /// The prediction, (B, out_channels, H, W), contiguous, in the model's dtype. Error(data) where a tensor that this model needs is
  /// missing or has another shape.
  at::Tensor forward(const Input& input) const;

  const Config& config() const { return config_; }
  at::ScalarType dtype() const { return conv_in_->bias.scalar_type(); }  ///< that it computes in
  at::Device device() const { return conv_in_->weight.device(); }

 private:
  at::Tensor forward_rows(const Input& input) const;

  Config config_;
  std::shared_ptr<nn::Conv2d> conv_in_, conv_out_;
  std::shared_ptr<nn::GroupNorm> conv_norm_out_;
  std::shared_ptr<TimestepEmbedding> time_embedding_, add_embedding_;
  std::vector<std::shared_ptr<DownBlock>> down_blocks_;
  std::shared_ptr<MidBlock> mid_block_;
  std::vector<std::shared_ptr<UpBlock>> up_blocks_;
};

}  // namespace atelier::models::unet
