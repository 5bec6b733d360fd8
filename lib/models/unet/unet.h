#pragma once

#include <memory>
#include <vector>

#include "models/unet/config.h"
#include "nn/conv.h"
#include "nn/linear.h"

namespace atelier::models::unet {

/// What the UNet is asked. Tensors are on the model's device; all but `timestep` in the model's dtype.
struct Input {
  at::Tensor sample;    ///< (B, in_channels, H, W), any H and W of at least 1; 9 channels: latents, mask, masked image
  at::Tensor timestep;  ///< () or (B), any numeric type
  at::Tensor context;   ///< (B, T, context_size): the text encoder's hidden states
  at::Tensor time_ids;  ///< SDXL: (B, 6) or (B, 5), any numeric type
  at::Tensor text_embeds;                  ///< SDXL: (B, pooled_size): the pooled, projected text
  at::Tensor guidance;                     ///< models with time_cond_proj: (B, time_cond_proj); undefined: none added
  std::vector<at::Tensor> down_residuals;  ///< ControlNet: added to every skip, in order; empty: none
  at::Tensor mid_residual;                 ///< ControlNet: added to the middle's output; undefined: none
  /// Rows that are computed side by side on the CPU; 0: all. A row's bits depend on the number of rows in its run: a
  /// caller who gives every picture its own run (1, or 2 with both halves of guidance side by side: rows 2k and 2k + 1)
  /// gets the same bits whatever the batch.
  std::int64_t rows_together = 0;
};

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
  at::ScalarType dtype() const { return conv_in_->weight.scalar_type(); }
  at::Device device() const { return conv_in_->weight.device(); }

 private:
  at::Tensor forward_rows(const Input& input) const;
  at::Tensor time_embedding(const Input& input) const;
  void check(const Input& input) const;

  Config config_;
  std::shared_ptr<nn::Conv2d> conv_in_, conv_out_;
  std::shared_ptr<nn::GroupNorm> conv_norm_out_;
  std::shared_ptr<TimestepEmbedding> time_embedding_, add_embedding_;
  std::vector<std::shared_ptr<DownBlock>> down_blocks_;
  std::shared_ptr<MidBlock> mid_block_;
  std::vector<std::shared_ptr<UpBlock>> up_blocks_;
};

}  // namespace atelier::models::unet
