#pragma once

#include <memory>
#include <vector>

#include "nn/conv.h"
#include "nn/linear.h"

namespace atelier::models::unet {

struct TransformerOptions {
  std::int64_t channels = 0, heads = 8, depth = 1, context = 768, groups = 32;
  bool linear_projection = false;
  bool upcast = false;  ///< attention of fp16 models in f32
};

class TransformerBlock;

/// Spatial transformer: group norm, projection, blocks of self-attention, cross-attention and feed-forward over the pixels,
/// projection, residual (diffusers: Transformer2DModel with continuous input).
class Transformer2D : public nn::Module {
 public:
  explicit Transformer2D(const TransformerOptions& options);

  /// x: (B, channels, H, W), context: (B, T, context size); result as x. `checkpointing`: see Input.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& context, bool checkpointing = false) const;

 private:
  bool linear_projection_;
  std::shared_ptr<nn::GroupNorm> norm;
  std::shared_ptr<nn::Conv2d> conv_in_, conv_out_;      // proj_in, proj_out
  std::shared_ptr<nn::Linear> linear_in_, linear_out_;  // the same, as linear maps
  std::vector<std::shared_ptr<TransformerBlock>> blocks_;
};

}  // namespace atelier::models::unet
