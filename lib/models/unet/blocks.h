#pragma once

#include <memory>
#include <vector>

#include "models/unet/attention.h"
#include "models/unet/config.h"
#include "nn/linear.h"
#include "nn/resnet.h"

namespace atelier::models::unet {

/// cos and sin of `values` (any shape) at `size` / 2 frequencies from 1 down to 1/10000, in f32: (values' elements, size). An
/// odd size ends with a zero. (diffusers: get_timestep_embedding)
at::Tensor sinusoids(const at::Tensor& values, std::int64_t size, bool flip_sin_to_cos, double freq_shift);

/// linear_1, activation, linear_2, with an optional condition added to the input (time_cond_proj).
class TimestepEmbedding : public nn::Module {
 public:
  TimestepEmbedding(std::int64_t in, std::int64_t out, nn::Activation activation, std::int64_t condition = 0);
  /// x: (B, in); condition: (B, condition size) or undefined. Result (B, out).
  at::Tensor forward(const at::Tensor& x, const at::Tensor& condition = {}) const;

 private:
  nn::Activation activation_;
  std::shared_ptr<nn::Linear> linear_1, linear_2, cond_proj;
};

/// DownBlock2D or CrossAttnDownBlock2D: level `index` of the configuration.
class DownBlock : public nn::Module {
 public:
  DownBlock(const Config& config, std::size_t index);
  /// Appends each resnet's output, and the downsampled one, to `skips`. `checkpointing`: see Input.
  at::Tensor forward(at::Tensor x, const at::Tensor& time, const at::Tensor& context,
                     std::vector<at::Tensor>& skips, bool checkpointing = false) const;

 private:
  std::vector<std::shared_ptr<nn::ResnetBlock2D>> resnets_;
  std::vector<std::shared_ptr<Transformer2D>> attentions_;  ///< empty in a DownBlock2D
  std::shared_ptr<nn::Downsample2D> downsampler_;           ///< null in the last
};

/// UNetMidBlock2DCrossAttn; without attention UNetMidBlock2D of no layers, which is one resnet (small ControlNets).
class MidBlock : public nn::Module {
 public:
  explicit MidBlock(const Config& config, bool attention = true);
  at::Tensor forward(at::Tensor x, const at::Tensor& time, const at::Tensor& context, bool checkpointing = false) const;

 private:
  std::shared_ptr<nn::ResnetBlock2D> first_, second_;
  std::shared_ptr<Transformer2D> attention_;
};

/// UpBlock2D or CrossAttnUpBlock2D; `index` counts from the coarsest level.
class UpBlock : public nn::Module {
 public:
  UpBlock(const Config& config, std::size_t index);
  /// Takes its skips off the end of `skips`.
  at::Tensor forward(at::Tensor x, const at::Tensor& time, const at::Tensor& context,
                     std::vector<at::Tensor>& skips, bool checkpointing = false) const;

 private:
  std::vector<std::shared_ptr<nn::ResnetBlock2D>> resnets_;
  std::vector<std::shared_ptr<Transformer2D>> attentions_;
  std::shared_ptr<nn::Upsample2D> upsampler_;  ///< null in the last
};

}  // namespace atelier::models::unet
