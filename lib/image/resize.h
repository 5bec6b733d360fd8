#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "image/image.h"

namespace atelier::image {

/// Pillow's filters: area-aware when making smaller, equal to Pillow's within one level of 255.
enum class Filter { nearest, box, bilinear, bicubic, lanczos };

/// To exactly width x height, with any number of channels, each for itself but for alpha: colours are premultiplied
/// while resampling, as Pillow does. The same size gives a copy. Error(data) above kMaxPixels.
Image resize(const Image& image, int width, int height, Filter filter = Filter::lanczos);
/// The same of floats (Pillow's mode F), not clamped; channels independent.
FloatImage resize(const FloatImage& image, int width, int height, Filter filter = Filter::lanczos);

/// How a picture is brought to another shape; A1111's "just resize", "crop and resize", "resize and fill".
enum class ResizeMode {
  stretch,  ///< both sides to the wanted size, whatever the proportions
  crop,     ///< proportions kept, the middle of what is too long is used
  pad,      ///< proportions kept, centred, the edge pixels repeated outwards
};

/// `image` brought to width x height.
Image fit(const Image& image, int width, int height, ResizeMode mode, Filter filter = Filter::lanczos);
/// A mask brought along with its picture by the same mode; pad keeps what was added unmasked (0).
Mask fit_mask(const Mask& mask, int width, int height, ResizeMode mode, Filter filter = Filter::lanczos);
/// How `fit` does it: the picture is resized to width x height and its top left pixel put at (left, top) of the
/// result, negative where that cuts it off.
struct Fit {
  int width = 0;
  int height = 0;
  int left = 0;
  int top = 0;
};
Fit fit_plan(int from_width, int from_height, int width, int height, ResizeMode mode);

/// By name: "stretch", "lanczos"; nothing where there is no such one.
std::optional<ResizeMode> parse_resize_mode(std::string_view name);
std::optional<Filter> parse_filter(std::string_view name);

}  // namespace atelier::image
