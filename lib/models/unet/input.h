#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/unet/config.h"

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
  /// For training: keep only what resnets and transformer blocks are given, and compute them again in the backward pass.
  bool checkpointing = false;

  /// Rows `begin` to `begin + count` of everything.
  Input rows(std::int64_t begin, std::int64_t count) const;
};

/// Error(data) where a tensor that a network of this configuration needs is missing or has another shape. `who` begins the
/// message: "the UNet".
void check_input(const Config& config, const Input& input, const std::string& who);

class TimestepEmbedding;

/// What the resnets are told besides pictures: the embedding of the timestep, with SDXL that of text and sizes added. In `dtype`
/// and on the weights' device: (B, time_embedding). `addition` is null where the configuration has none.
at::Tensor embed_time(const Config& config, const Input& input, const TimestepEmbedding& time,
                      const TimestepEmbedding* addition, at::ScalarType dtype);

}  // namespace atelier::models::unet
