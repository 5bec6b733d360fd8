#pragma once

#include <span>
#include <string>

#include "image/image.h"

namespace atelier::image {

/// The mask that a picture means: its grey levels, white being repainted. Where it has a transparent part, and no
/// grey levels (one colour throughout, or a coloured picture), its transparent part is repainted instead.
Mask mask_from_image(const Image& image);

/// `mask` brought to the picture's size. Another size with the same proportions is resized (bilinear) silently, other
/// proportions (beyond a pixel's rounding) with a warning that names `name`: the mask is stretched with the picture
/// it was drawn for.
Mask match_mask(Mask mask, int width, int height, const std::string& name);

/// 255 - value.
Mask invert(const Mask& mask);
/// The larger value of each pixel. All of the same size; Error(internal) otherwise or for none.
Mask unite(std::span<const Mask> masks);

/// Grows the mask by `pixels` in every direction (dilation by a disc, grey levels kept); negative shrinks it.
Mask grow(const Mask& mask, int pixels);

/// Softens the edge over `pixels` to both sides: Pillow's Gaussian blur of sigma = pixels / 2, cut to 0 where every
/// pixel of the mask is farther than `pixels` (Euclidean). So what a feather of N can touch ends N pixels outside the
/// mask. A1111's "mask blur" N is a sigma: feather 2 N.
Mask feather(const Mask& mask, float pixels);

/// The smallest box around everything that is not 0; empty where all is.
Box bounding_box(const Mask& mask);

/// The region worked on by --only-masked: the bounding box with `padding` on each side, widened towards the
/// proportions of `target_width` x `target_height` and moved inside the picture (A1111's get_crop_region and
/// expand_crop_region). Where the picture is too small for these proportions the region is the largest there is.
/// Empty for an empty mask.
Box crop_region(const Mask& mask, int padding, int target_width, int target_height);

/// 255 where value >= threshold, else 0 (diffusers: 128).
Mask binarise(const Mask& mask, int threshold = 128);

}  // namespace atelier::image
