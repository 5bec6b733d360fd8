#pragma once

#include <memory>

#include "nn/conv.h"
#include "nn/linear.h"

namespace atelier::nn {

/// The residual block of UNet and autoencoder (diffusers: ResnetBlock2D with time_embedding_norm "default"):
/// norm1, act, conv1, + time embedding, norm2, act, conv2, + shortcut.
class ResnetBlock2D : public Module {
 public:
  struct Options {
    std::int64_t in = 0, out = 0;
    std::int64_t time_channels = 0;  ///< 0: no time embedding
    std::int64_t groups = 32;
    double eps = 1e-5;
    Activation activation = Activation::silu;
    double output_scale = 1;  ///< the result is divided by it
  };

  explicit ResnetBlock2D(const Options& options);

  /// x: (B, in, H, W); time: (B, time_channels), not yet activated, or undefined. Result (B, out, H, W).
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time = {}) const;

 private:
  at::Tensor time_shift(const at::Tensor& time) const;

  Activation activation_;
  double output_scale_;
  std::shared_ptr<GroupNorm> norm1, norm2;
  std::shared_ptr<Conv2d> conv1, conv2, conv_shortcut;
  std::shared_ptr<Linear> time_emb_proj;
};

/// Halves height and width by a convolution of stride 2. `padding` 0 means one column right and one row below, as in the
/// autoencoder's encoder.
class Downsample2D : public Module {
 public:
  Downsample2D(std::int64_t channels, std::int64_t padding);
  at::Tensor forward(const at::Tensor& x) const;  // (B, C, H, W) -> (B, C, ceil(H/2) or floor(H/2), ...)

 private:
  std::int64_t padding_;
  std::shared_ptr<Conv2d> conv;
};

/// Repeats pixels and convolves.
class Upsample2D : public Module {
 public:
  explicit Upsample2D(std::int64_t channels);
  /// (B, C, H, W) -> (B, C, height, width); 0: twice the size. Other sizes are for skips of an odd size.
  at::Tensor forward(const at::Tensor& x, std::int64_t height = 0, std::int64_t width = 0) const;

 private:
  std::shared_ptr<Conv2d> conv;
};

}  // namespace atelier::nn
