#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "image/image.h"
#include "pipelines/image_model.h"

namespace atelier::pipelines {

/// Small pictures of unfinished latents at almost no cost: each latent pixel becomes one colour by an affine map, which is
/// fitted to the model's own autoencoder by decoding a few random latents once.
class LatentPreview {
 public:
  explicit LatentPreview(const ImageModel& model);

  /// latents: (channels, h, w), scaled as the UNet has them. Result: RGB, `enlarge` pixels for each latent.
  image::Image draw(const at::Tensor& latents, std::int64_t enlarge) const;

 private:
  at::Tensor map_;  ///< (channels + 1, 3) f32 on the CPU; the last row is the constant
};

}  // namespace atelier::pipelines
