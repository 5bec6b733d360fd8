#pragma once

#include "image/image.h"

namespace atelier::image {

/// A1111's soft inpainting (its extension of that name): grey mask levels fade the original out over the steps, and
/// in the end what hardly changed shows the original again.
struct SoftInpaint {
  double schedule_bias = 1;   ///< exponent of sigma: above 1 keeps the original early, below 1 late
  double preservation = 0.5;  ///< strength with which grey levels keep the original
  double contrast_boost = 4;  ///< exponent of the mean of magnitudes, at least 1: above 1 leans towards the larger one
  double mask_influence = 0;  ///< of the mask on the final composition, 0 to 1
  double difference_threshold = 0.5;  ///< change of the latents at which the original is half opaque
  double difference_contrast = 2;     ///< how sharp the transition there is
};

/// The share of the model's own latent at a step of noise level `sigma`: mask ^ (sigma ^ schedule_bias * preservation).
/// The mask is 0 to 1, of the latent's size.
FloatImage soft_step_mask(const FloatImage& mask, double sigma, const SoftInpaint& settings);

/// original * (1 - t) + current * t with t = mask, each vector then brought to the length (|original|^p (1 - t) +
/// |current|^p t)^(1/p), p = contrast_boost: blending does not blur. Latents are (height, width, channels).
FloatImage soft_blend(const FloatImage& original, const FloatImage& current, const FloatImage& mask,
                      const SoftInpaint& settings);

/// How much of the finished picture shows at each latent pixel, 0 to 1: a smooth step of how far the result's latent
/// lies from the original's, outliers filtered within 5x5. The mask is that of the latents. The picture's own mask is
/// this, resized, blurred (A1111: sigma 4), and not more than the user's mask plus feather.
FloatImage soft_final_mask(const FloatImage& original, const FloatImage& result, const FloatImage& mask,
                           const SoftInpaint& settings);

}  // namespace atelier::image
