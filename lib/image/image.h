#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace atelier::image {

/// Pictures of more pixels are refused, whether read, made by resizing or drawn.
inline constexpr std::int64_t kMaxPixels = std::int64_t{64} << 20;

/// Rows from top to bottom, pixels from left to right, channels interleaved: (height, width, channels).
template <typename T>
struct Raster {
  int width = 0;
  int height = 0;
  int channels = 0;
  std::vector<T> data;

  Raster() = default;
  /// Filled with `value`. Error(data) where the size is not positive or above kMaxPixels.
  Raster(int w, int h, int c, T value = T{});

  bool empty() const { return data.empty(); }
  std::size_t pixels() const { return static_cast<std::size_t>(width) * static_cast<std::size_t>(height); }
  std::size_t row_size() const { return static_cast<std::size_t>(width) * static_cast<std::size_t>(channels); }
  T* row(int y) { return data.data() + static_cast<std::size_t>(y) * row_size(); }
  const T* row(int y) const { return data.data() + static_cast<std::size_t>(y) * row_size(); }
  T* at(int x, int y) { return row(y) + static_cast<std::size_t>(x) * static_cast<std::size_t>(channels); }
  const T* at(int x, int y) const { return row(y) + static_cast<std::size_t>(x) * static_cast<std::size_t>(channels); }
  bool same_size(const Raster& other) const { return width == other.width && height == other.height; }
  bool operator==(const Raster&) const = default;
};

/// 8 bits a channel: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha (not premultiplied), in sRGB.
using Image = Raster<std::uint8_t>;
/// The same in floating point, 0 to 1 unless said otherwise.
using FloatImage = Raster<float>;
/// An Image of one channel: 255 is repainted, 0 is kept, between them both are mixed.
using Mask = Image;

/// A rectangle of whole pixels: x from `left` up to but not including `left + width`.
struct Box {
  int left = 0;
  int top = 0;
  int width = 0;
  int height = 0;
  bool empty() const { return width <= 0 || height <= 0; }
  bool operator==(const Box&) const = default;
};

/// Throws Error(data) "WHAT: WxH ..." unless both sides are positive and the area is at most kMaxPixels.
void check_size(std::int64_t width, std::int64_t height, std::string_view what);

/// Three channels: grey is spread, alpha is dropped as by Pillow's convert("RGB").
Image to_rgb(const Image& image);
/// Three channels: what is transparent shows `background` (0 to 255, all channels).
Image flatten(const Image& image, std::uint8_t background);
/// One channel: ITU-R 601 luma in Pillow's fixed point; alpha is dropped. Equal to convert("L").
Image to_grey(const Image& image);
/// The alpha channel, or an empty Image where there is none.
Image alpha_of(const Image& image);

/// value / 255.
FloatImage to_float(const Image& image);
/// clamp(value, 0, 1) * 255, rounded to nearest, halves to even (numpy's round, as in diffusers). NaN becomes 0.
Image to_bytes(const FloatImage& image);

/// The part of the picture in `box`, which must lie within it (Error(internal)).
Image crop(const Image& image, const Box& box);
/// Copies `part` into `image` with its top left pixel at (left, top); what sticks out is cut off. Same channels.
void paste(Image& image, const Image& part, int left, int top);

}  // namespace atelier::image
