#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "train/loop.h"

namespace atelier::train::image {

/// One micro-batch of pictures of one bucket, ready for the diffusion loss. Tensors lie on the CPU. `weight` is what the sum of
/// the losses is divided by: the number of pictures, class pictures left out (their share of the mean is loss_weights').
struct ImageBatch : train::Batch {
  at::Tensor pixels;   ///< (B, 3, H, W) f32 in [-1, 1]; undefined where latents are cached
  at::Tensor latents;  ///< (B, 4, H/8, W/8) f32, sampled from the autoencoder's posterior and NOT yet scaled; undefined
                       ///< where not cached (mean and log-variance are what is cached: see `moments`)
  at::Tensor moments;  ///< (B, 8, H/8, W/8) f32: mean and log-variance of the posterior, when cached
  std::vector<std::string> captions;  ///< after shuffling, dropout, wildcards
  std::vector<std::string> keys;      ///< stable keys of the captions' cached text embeddings
  at::Tensor mask;                    ///< (B, 1, H/8, W/8) f32 in [0, 1], undefined without --masked-loss
  at::Tensor sizes;  ///< (B, 6) int64: SDXL's original height, width, crop top, left, target height, width
  std::vector<double> loss_weights;  ///< 1, or the prior weight of class pictures
};

}  // namespace atelier::train::image
