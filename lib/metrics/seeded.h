#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "image/image.h"
#include "metrics/networks.h"
#include "nn/module.h"

namespace atelier::metrics {

/// Pictures and networks that follow from names, for selftest() and its tests; scripts/fixtures/metrics.py makes the same in Python.

/// f32 numbers in [shift - scale, shift + scale).
at::Tensor seeded(const std::string& name, at::IntArrayRef shape, double scale = 1, double shift = 0);

/// What a parameter of this name holds: norms near 1, biases small, convolutions that neither fade nor grow.
at::Tensor seeded_weight(const std::string& name, at::IntArrayRef shape);
/// Every parameter of a network.
void fill_seeded(nn::Module& module);

/// RGB: slopes that wrap around at 255, with noise.
image::Image seeded_picture(const std::string& name, int width, int height);

/// Networks with such weights; the hash of weights is "seeded".
Inception seeded_inception();
Lpips seeded_lpips(const std::string& trunk);  ///< "alex", "vgg", "squeeze"
/// Towers of 2 layers of 32 numbers, pictures of 32 pixels in patches of 8, CLIP's own vocabulary.
ClipScorer seeded_clip(ClipPreparation::Fit fit = ClipPreparation::Fit::as_configured);
/// Towers of 2 layers of 48 and 32 numbers, the same pictures, a vocabulary of letters.
ImageReward seeded_image_reward();

}  // namespace atelier::metrics
