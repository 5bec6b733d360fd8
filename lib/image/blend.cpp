#include "image/blend.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "image/luminosity.h"
#include "image/pixel_math.h"
#include "image/poisson.h"

namespace atelier::image {
namespace {

float screen(float a, float b) { return a + b - a * b; }

float soft_light(float backdrop, float source) {
  if (source <= 0.5f) return backdrop - (1 - 2 * source) * backdrop * (1 - backdrop);
  const float curve = backdrop <= 0.25f ? ((16 * backdrop - 12) * backdrop + 4) * backdrop : std::sqrt(backdrop);
  return backdrop + (2 * source - 1) * (curve - backdrop);
}

float mixed(float backdrop, float source, BlendMode mode) {
  switch (mode) {
    case BlendMode::multiply: return backdrop * source;
    case BlendMode::screen: return screen(backdrop, source);
    case BlendMode::overlay: return backdrop <= 0.5f ? source * 2 * backdrop : screen(source, 2 * backdrop - 1);
    case BlendMode::soft_light: return soft_light(backdrop, source);
    default: return source;
  }
}

// What the mode makes of the two, 0 to 255 but for rounding.
FloatImage mixed(const Image& original, const Image& painted, const Mask& mask, BlendMode mode) {
  if (mode == BlendMode::poisson) return solve_poisson(original, painted, mask);
  FloatImage result(original.width, original.height, 3);
  for (std::size_t i = 0; i < mask.data.size(); ++i) {
    if (mask.data[i] == 0) continue;
    Colour backdrop, source;
    for (std::size_t c = 0; c < 3; ++c) {
      backdrop[c] = static_cast<float>(original.data[3 * i + c]) / 255;
      source[c] = static_cast<float>(painted.data[3 * i + c]) / 255;
    }
    Colour colour = with_luminosity(backdrop, luminosity_of(source));
    for (std::size_t c = 0; c < 3; ++c) {
      if (mode != BlendMode::luminosity) colour[c] = mixed(backdrop[c], source[c], mode);
      result.data[3 * i + c] = colour[c] * 255;
    }
  }
  return result;
}

}  // namespace

std::optional<BlendMode> parse_blend_mode(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, BlendMode>, 7> kNames = {{{"normal", BlendMode::normal},
                                                                             {"multiply", BlendMode::multiply},
                                                                             {"screen", BlendMode::screen},
                                                                             {"overlay", BlendMode::overlay},
                                                                             {"soft-light", BlendMode::soft_light},
                                                                             {"luminosity", BlendMode::luminosity},
                                                                             {"poisson", BlendMode::poisson}}};
  for (const auto& [known, mode] : kNames) {
    if (name == known) return mode;
  }
  return std::nullopt;
}

Image blend(const Image& original, const Image& painted, const Mask& mask, BlendMode mode) {
  if (original.channels != 3 || painted.channels != 3 || mask.channels != 1 || !original.same_size(painted) ||
      !original.same_size(mask)) {
    throw base::Error(base::ExitCode::internal, "blend: pictures of unlike sizes");
  }
  const FloatImage wanted = mixed(original, painted, mask, mode);
  Image result = original;
  for (std::size_t i = 0; i < mask.data.size(); ++i) {
    if (mask.data[i] == 0) continue;
    const float share = static_cast<float>(mask.data[i]) / 255;
    for (std::size_t c = 3 * i; c < 3 * i + 3; ++c) {
      const auto before = static_cast<float>(original.data[c]);
      const float after = std::clamp(wanted.data[c], 0.0f, 255.0f);
      result.data[c] = to_byte(before + share * (after - before));
    }
  }
  return result;
}

}  // namespace atelier::image
