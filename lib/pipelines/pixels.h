#pragma once

#include <ATen/core/Tensor.h>

#include "image/image.h"

namespace atelier::pipelines {

/// Pixels as the autoencoder wants them: (1, 3, height, width) f32 in [-1, 1]. The picture must have 3 channels.
at::Tensor to_tensor(const image::Image& picture);

/// The same in [0, 1], as ControlNets and upscalers want them.
at::Tensor to_unit_tensor(const image::Image& picture);

/// A mask as latents see it: (1, 1, height, width) f32, 1 where the mask is at least 128, else 0.
at::Tensor to_tensor(const image::Mask& mask, int threshold);

/// Latents (C, h, w) as a raster (h, w, C) of floats, and back on the CPU in f32.
image::FloatImage to_raster(const at::Tensor& latents);
at::Tensor from_raster(const image::FloatImage& raster);

/// One picture (3, height, width) about [-1, 1] as pixels, clamped and rounded as diffusers does; NaN becomes 0.
image::Image to_image(const at::Tensor& picture);

}  // namespace atelier::pipelines
