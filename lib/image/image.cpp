#include "image/image.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"
#include "image/pixel_math.h"

namespace atelier::image {

using base::Error;
using base::ExitCode;

void check_size(std::int64_t width, std::int64_t height, std::string_view what) {
  if (width <= 0 || height <= 0) {
    throw Error(ExitCode::data, fmt::format("{}: {}x{} is not the size of a picture", what, width, height));
  }
  if (width > kMaxPixels || height > kMaxPixels / width) {
    throw Error(ExitCode::data, fmt::format("{}: {}x{} is too large: at most {} megapixels are worked on", what, width,
                                            height, kMaxPixels >> 20));
  }
}

template <typename T>
Raster<T>::Raster(int w, int h, int c, T value) : width(w), height(h), channels(c) {
  check_size(w, h, "picture");
  data.assign(pixels() * static_cast<std::size_t>(c), value);
}

template struct Raster<std::uint8_t>;
template struct Raster<float>;

Image to_rgb(const Image& image) {
  if (image.channels == 3) return image;
  Image result(image.width, image.height, 3);
  const bool grey = image.channels < 3;
  const std::uint8_t* from = image.data.data();
  for (std::uint8_t *to = result.data.data(), *end = to + result.data.size(); to < end; to += 3) {
    to[0] = from[0];
    to[1] = from[grey ? 0 : 1];
    to[2] = from[grey ? 0 : 2];
    from += image.channels;
  }
  return result;
}

Image flatten(const Image& image, std::uint8_t background) {
  const Image alpha = alpha_of(image);
  Image result = to_rgb(image);
  if (alpha.empty()) return result;
  for (std::size_t i = 0; i < result.data.size(); ++i) {
    const int a = alpha.data[i / 3];
    result.data[i] = divide_by_255(result.data[i] * a + background * (255 - a));
  }
  return result;
}

Image to_grey(const Image& image) {
  if (image.channels == 1) return image;
  Image result(image.width, image.height, 1);
  const std::uint8_t* from = image.data.data();
  for (std::uint8_t& value : result.data) {
    value = image.channels < 3 ? from[0] : luma(from);
    from += image.channels;
  }
  return result;
}

Image alpha_of(const Image& image) {
  if (image.channels != 2 && image.channels != 4) return {};
  Image result(image.width, image.height, 1);
  const std::uint8_t* from = image.data.data() + image.channels - 1;
  for (std::uint8_t& value : result.data) {
    value = *from;
    from += image.channels;
  }
  return result;
}

FloatImage to_float(const Image& image) {
  FloatImage result(image.width, image.height, image.channels);
  std::transform(image.data.begin(), image.data.end(), result.data.begin(),
                 [](std::uint8_t value) { return static_cast<float>(value) / 255.0f; });
  return result;
}

Image to_bytes(const FloatImage& image) {
  Image result(image.width, image.height, image.channels);
  std::transform(image.data.begin(), image.data.end(), result.data.begin(), [](float value) {
    const float limited = value > 0 ? std::min(value, 1.0f) : 0.0f;  // NaN is not above 0
    return static_cast<std::uint8_t>(std::nearbyint(limited * 255.0f));
  });
  return result;
}

Image crop(const Image& image, const Box& box) {
  if (box.empty() || box.left < 0 || box.top < 0 || box.width > image.width - box.left ||
      box.height > image.height - box.top) {
    throw Error(ExitCode::internal, "crop: the box leaves the picture");
  }
  Image result(box.width, box.height, image.channels);
  for (int y = 0; y < box.height; ++y) {
    std::memcpy(result.row(y), image.at(box.left, box.top + y), result.row_size());
  }
  return result;
}

void paste(Image& image, const Image& part, int left, int top) {
  if (image.channels != part.channels) throw Error(ExitCode::internal, "paste: pictures of unlike channels");
  const int from_x = std::max(0, -left), to_x = std::min(part.width, image.width - left);
  if (from_x >= to_x) return;
  const std::size_t size = static_cast<std::size_t>(to_x - from_x) * static_cast<std::size_t>(part.channels);
  for (int y = std::max(0, -top); y < std::min(part.height, image.height - top); ++y) {
    std::memcpy(image.at(left + from_x, top + y), part.at(from_x, y), size);
  }
}

}  // namespace atelier::image
