#pragma once

#include <memory>
#include <vector>

#include "models/vae/autoencoder.h"
#include "nn/linear.h"
#include "nn/resnet.h"

namespace atelier::models::vae {

/// One-headed self-attention over the pixels of the middle (diffusers: Attention with a group norm and a residual).
class PixelAttention : public nn::Module {
 public:
  PixelAttention(std::int64_t channels, std::int64_t groups);
  at::Tensor forward(const at::Tensor& x) const;  // (B, C, H, W), same shape

 private:
  std::shared_ptr<nn::GroupNorm> group_norm;
  std::shared_ptr<nn::Linear> to_q, to_k, to_v, to_out;
};

/// Resnet, attention, resnet.
class MidBlock : public nn::Module {
 public:
  explicit MidBlock(const Config& config);
  at::Tensor forward(const at::Tensor& x) const;  // (B, C, H, W), same shape

 private:
  std::shared_ptr<nn::ResnetBlock2D> first_, second_;
  std::shared_ptr<PixelAttention> attention_;  ///< null where the configuration has none
};

/// One level: resnets, then a change of size.
struct CoderLevel {
  std::vector<std::shared_ptr<nn::ResnetBlock2D>> resnets;
  std::shared_ptr<nn::Downsample2D> downsampler;  ///< encoder, all but the last
  std::shared_ptr<nn::Upsample2D> upsampler;      ///< decoder, all but the last
};

class Encoder : public nn::Module {
 public:
  explicit Encoder(const Config& config);
  at::Tensor forward(const at::Tensor& pictures) const;  // (B, 3, H, W) -> (B, 2 latent_channels, h, w)

 private:
  nn::Activation activation_;
  std::shared_ptr<nn::Conv2d> conv_in_, conv_out_;
  std::vector<CoderLevel> levels_;
  std::shared_ptr<MidBlock> mid_block_;
  std::shared_ptr<nn::GroupNorm> conv_norm_out_;
};

class Decoder : public nn::Module {
 public:
  explicit Decoder(const Config& config);
  at::Tensor forward(const at::Tensor& latents) const;  // (B, latent_channels, h, w) -> (B, 3, H, W)
  const at::Tensor& first_weight() const { return conv_in_->weight; }

 private:
  nn::Activation activation_;
  std::shared_ptr<nn::Conv2d> conv_in_, conv_out_;
  std::vector<CoderLevel> levels_;
  std::shared_ptr<MidBlock> mid_block_;
  std::shared_ptr<nn::GroupNorm> conv_norm_out_;
};

}  // namespace atelier::models::vae
