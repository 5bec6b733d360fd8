#pragma once

#include <optional>
#include <string_view>

#include "image/image.h"

namespace atelier::image {

/// How what was painted comes into the picture. The formulas are W3C's Compositing and Blending Level 1, with the
/// original as backdrop and the painted picture as source; `luminosity` takes the painted picture's lightness and the
/// original's colours. `poisson` keeps the painted picture's gradients and takes the colours at the mask's border
/// from the original (Perez et al. 2003).
enum class BlendMode { normal, multiply, screen, overlay, soft_light, luminosity, poisson };

/// By its name on the command line ("soft-light"); nothing where there is no such one.
std::optional<BlendMode> parse_blend_mode(std::string_view name);

/// original + mask / 255 * (mode(original, painted) - original). RGB pictures and mask of one size (Error(internal)
/// otherwise). Where the mask is 0 the original's bytes come back, whatever the mode; where it is 255 and the mode is
/// normal the painted ones.
Image blend(const Image& original, const Image& painted, const Mask& mask, BlendMode mode);

/// The picture with what is masked replaced by colours blurred in from around (A1111's masked content "fill"). RGB.
Image fill_masked(const Image& image, const Mask& mask);

}  // namespace atelier::image
