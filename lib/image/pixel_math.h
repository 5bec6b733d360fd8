#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace atelier::image {

/// Within the room: arithmetic on 8-bit values, rounded as Pillow rounds.

/// value / 255 rounded, for 0 to 255 * 255; exact.
inline std::uint8_t divide_by_255(int value) {
  const int rounded = value + 128;
  return static_cast<std::uint8_t>(((rounded >> 8) + rounded) >> 8);
}

inline std::uint8_t multiply(int a, int b) { return divide_by_255(a * b); }

/// ITU-R 601 luma of R, G, B.
inline std::uint8_t luma(const std::uint8_t* rgb) {
  return static_cast<std::uint8_t>((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

/// Rounded to the nearest of 0 to 255.
inline std::uint8_t to_byte(float value) { return static_cast<std::uint8_t>(std::clamp(value + 0.5f, 0.0f, 255.0f)); }

}  // namespace atelier::image
