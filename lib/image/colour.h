#pragma once

#include <optional>
#include <string_view>

#include "image/image.h"

namespace atelier::image {

enum class ColourMatch {
  none,
  mean,       ///< mean and standard deviation of each Lab channel (Reinhard et al. 2001)
  histogram,  ///< histograms of 8-bit Lab, then the result's own luminosity: A1111's colour correction
};

/// By name; nothing where there is no such one.
std::optional<ColourMatch> parse_colour_match(std::string_view name);

/// `image` with the colours of `reference`, which may have another size. RGB. With a `mask` of the picture's size,
/// only pixels of `image` where it is not 0 are measured and changed (an empty Image: all).
Image match_colours(const Image& image, const Image& reference, ColourMatch match, const Mask& mask = {});

}  // namespace atelier::image
