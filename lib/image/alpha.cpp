#include "image/alpha.h"

#include <algorithm>

#include "image/pixel_math.h"

namespace atelier::image {

Image premultiply(Image image) {
  const int colours = image.channels - 1;
  for (std::uint8_t *p = image.data.data(), *end = p + image.data.size(); p < end; p += image.channels) {
    for (int c = 0; c < colours; ++c) p[c] = multiply(p[c], p[colours]);
  }
  return image;
}

Image unpremultiply(Image image) {
  const int colours = image.channels - 1;
  for (std::uint8_t *p = image.data.data(), *end = p + image.data.size(); p < end; p += image.channels) {
    const int alpha = p[colours];
    if (alpha == 0 || alpha == 255) continue;
    for (int c = 0; c < colours; ++c) p[c] = static_cast<std::uint8_t>(std::min(255, 255 * p[c] / alpha));
  }
  return image;
}

void composite(Image& picture, const Image& over) {
  constexpr unsigned kBits = 7;
  const auto by_255 = [](unsigned value) { return ((value >> 8) + value) >> 8; };
  const std::uint8_t* source = over.data.data();
  for (std::uint8_t *p = picture.data.data(), *end = p + picture.data.size(); p < end; p += 4, source += 4) {
    const unsigned alpha = source[3];
    if (alpha == 0) continue;
    const unsigned total = alpha * 255 + p[3] * (255 - alpha);
    const unsigned weight = alpha * 255 * 255 * (1u << kBits) / total, rest = 255 * (1u << kBits) - weight;
    for (int c = 0; c < 3; ++c) {
      p[c] = static_cast<std::uint8_t>(by_255(source[c] * weight + p[c] * rest + (0x80u << kBits)) >> kBits);
    }
    p[3] = static_cast<std::uint8_t>(by_255(total + 0x80));
  }
}

}  // namespace atelier::image
