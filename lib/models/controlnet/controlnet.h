#pragma once

#include <memory>
#include <vector>

#include "models/controlnet/config.h"
#include "models/unet/input.h"
#include "nn/conv.h"

namespace atelier::models::unet {
class DownBlock;
class MidBlock;
}  // namespace atelier::models::unet

namespace atelier::models::controlnet {

/// What a UNet adds: unet::Input's down_residuals and mid_residual.
struct Residuals {
  std::vector<at::Tensor> down;  ///< (B, C, H, W) of every skip; with global_pool (B, C, 1, 1)
  at::Tensor mid;                ///< of the middle's output, likewise
};

class ConditioningEmbedding;

/// ControlNetModel: a copy of a UNet's way down and middle that sees a picture, its outputs behind 1x1 convolutions that
/// training begins at zero. Names as in diffusers. Reference: arXiv:2302.05543.
class ControlNet : public nn::Module {
 public:
  explicit ControlNet(const Config& config);

  /// The picture as forward() wants it, the same for all steps: (B, 3, height, width) RGB in [0, 1] of the weights' dtype and
  /// device -> (B, channels, height / downscale, width / downscale).
  at::Tensor embed(const at::Tensor& picture) const;

  /// `in`: as the UNet's, without residuals and with in_channels of latents; its rows are computed as `rows_together` says.
  /// `embedding`: embed()'s, of one row for all or as many as `in` has. Residuals are multiplied by `scale`. Error(data) where a
  /// tensor is missing or has another shape.
  Residuals forward(const unet::Input& in, const at::Tensor& embedding, double scale = 1) const;

  const Config& config() const { return config_; }
  at::ScalarType dtype() const { return conv_in_->weight.scalar_type(); }
  at::Device device() const { return conv_in_->weight.device(); }

 private:
  Residuals forward_rows(const unet::Input& in, const at::Tensor& embedding, double scale) const;
  at::Tensor finish(at::Tensor residual, double scale) const;

  Config config_;
  std::shared_ptr<nn::Conv2d> conv_in_;
  std::shared_ptr<unet::TimestepEmbedding> time_embedding_, add_embedding_;
  std::shared_ptr<ConditioningEmbedding> conditioning_;
  std::vector<std::shared_ptr<unet::DownBlock>> down_blocks_;
  std::shared_ptr<unet::MidBlock> mid_block_;
  std::vector<std::shared_ptr<nn::Conv2d>> zero_convolutions_;  ///< controlnet_down_blocks
  std::shared_ptr<nn::Conv2d> mid_zero_convolution_;            ///< controlnet_mid_block
};

}  // namespace atelier::models::controlnet
