#pragma once

#include <algorithm>
#include <array>

namespace atelier::image {

/// Within the room: the non-separable arithmetic of W3C's Compositing and Blending Level 1, 10.2. Colours from 0 to 1.
using Colour = std::array<float, 3>;

inline float luminosity_of(const Colour& c) { return 0.3f * c[0] + 0.59f * c[1] + 0.11f * c[2]; }

/// The colour with this luminosity, drawn towards grey as far as it would leave 0 to 1.
inline Colour with_luminosity(Colour c, float luminosity) {
  const float shift = luminosity - luminosity_of(c);
  for (float& value : c) value += shift;
  const float low = std::min({c[0], c[1], c[2]}), high = std::max({c[0], c[1], c[2]}), grey = luminosity_of(c);
  for (float& value : c) {
    if (low < 0) value = grey + (value - grey) * grey / (grey - low);
  }
  for (float& value : c) {
    if (high > 1) value = grey + (value - grey) * (1 - grey) / (high - grey);
  }
  return c;
}

}  // namespace atelier::image
