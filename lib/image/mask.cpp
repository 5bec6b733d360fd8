#include "image/mask.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "image/filter.h"
#include "image/resize.h"

namespace atelier::image {
namespace {

using base::Error;
using base::ExitCode;

// Grey levels: every pixel is grey, and there are at least two of them.
bool has_grey_levels(const Image& image) {
  const int colours = image.channels >= 3 ? 3 : 1;
  bool several = false;
  for (std::size_t i = 0; i < image.data.size(); i += static_cast<std::size_t>(image.channels)) {
    const std::uint8_t* p = image.data.data() + i;
    if (colours == 3 && (p[0] != p[1] || p[0] != p[2])) return false;
    several = several || p[0] != image.data[0];
  }
  return several;
}

// to[i] = max of from[i - reach] to from[i + reach], by the method of van Herk and of Gil and Werman: running maxima
// from both ends of blocks as long as the window.
class RunningMax {
 public:
  void run(const std::uint8_t* from, int size, int reach, std::uint8_t* to) {
    const int window = 2 * reach + 1, padded = (size + 2 * reach + window - 1) / window * window;
    ahead_.assign(static_cast<std::size_t>(padded), 0);
    std::copy_n(from, size, ahead_.begin() + reach);
    back_ = ahead_;
    for (int i = 0; i < padded; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (i % window != 0) ahead_[at] = std::max(ahead_[at], ahead_[at - 1]);
    }
    for (int i = padded - 2; i >= 0; --i) {
      const auto at = static_cast<std::size_t>(i);
      if (i % window != window - 1) back_[at] = std::max(back_[at], back_[at + 1]);
    }
    for (int i = 0; i < size; ++i) {
      to[i] = std::max(back_[static_cast<std::size_t>(i)], ahead_[static_cast<std::size_t>(i + window - 1)]);
    }
  }

 private:
  std::vector<std::uint8_t> ahead_, back_;
};

// Dilation by the disc of this radius: for each distance between rows, the maximum over the disc's chord there.
Mask dilate(const Mask& mask, double radius) {
  Mask result = mask;
  RunningMax running;
  std::vector<std::uint8_t> chord(mask.row_size());
  const int reach = static_cast<int>(std::min(radius, 1e6));
  for (int y = 0; y < mask.height; ++y) {
    const std::uint8_t* row = mask.row(y);
    if (std::all_of(row, row + mask.row_size(), [](std::uint8_t value) { return value == 0; })) continue;
    for (int dy = 0; dy <= std::min(reach, mask.height); ++dy) {
      const int half = static_cast<int>(std::sqrt(radius * radius - double{1} * dy * dy) + 1e-9);
      running.run(row, mask.width, std::min(half, mask.width), chord.data());
      for (const int to : {y - dy, y + dy}) {
        if (to < 0 || to >= mask.height) continue;
        std::uint8_t* out = result.row(to);
        for (std::size_t x = 0; x < chord.size(); ++x) out[x] = std::max(out[x], chord[x]);
      }
    }
  }
  return result;
}

// One axis of A1111's expand_crop_region: [from, to) lengthened to `wanted`, kept inside [0, limit) if it can be.
void lengthen(int& from, int& to, double wanted, int limit) {
  const int more = static_cast<int>(wanted - (to - from));
  from -= more / 2;
  to += more - more / 2;
  if (to >= limit) {
    from -= to - limit;
    to = limit;
  }
  if (from < 0) {
    to -= from;
    from = 0;
  }
  to = std::min(to, limit);
}

}  // namespace

Mask mask_from_image(const Image& image) {
  const Image alpha = alpha_of(image);
  const auto is_opaque = [](std::uint8_t value) { return value == 255; };
  const bool transparent = !std::all_of(alpha.data.begin(), alpha.data.end(), is_opaque);
  return transparent && !has_grey_levels(image) ? invert(alpha) : to_grey(image);
}

Mask match_mask(Mask mask, int width, int height, const std::string& name) {
  if (mask.width == width && mask.height == height) return mask;
  const double expected = static_cast<double>(mask.width) * height / width;
  if (std::abs(expected - mask.height) > 1.0) {
    base::log_warning(fmt::format("{}: the mask is {}x{} and the picture {}x{}; it is stretched over the picture", name,
                                  mask.width, mask.height, width, height));
  }
  return resize(mask, width, height, Filter::bilinear);
}

Mask invert(const Mask& mask) {
  Mask result = mask;
  for (std::uint8_t& value : result.data) value = static_cast<std::uint8_t>(255 - value);
  return result;
}

Mask unite(std::span<const Mask> masks) {
  if (masks.empty()) throw Error(ExitCode::internal, "unite: no masks");
  Mask result = masks.front();
  for (const Mask& mask : masks.subspan(1)) {
    if (!mask.same_size(result)) throw Error(ExitCode::internal, "unite: masks of unlike sizes");
    std::transform(result.data.begin(), result.data.end(), mask.data.begin(), result.data.begin(),
                   [](std::uint8_t a, std::uint8_t b) { return std::max(a, b); });
  }
  return result;
}

Mask grow(const Mask& mask, int pixels) {
  if (pixels == 0) return mask;
  return pixels > 0 ? dilate(mask, pixels) : invert(dilate(invert(mask), -static_cast<double>(pixels)));
}

Mask feather(const Mask& mask, float pixels) {
  if (!(pixels > 0)) return mask;
  Mask result = gaussian_blur(mask, pixels / 2);
  const Mask reach = dilate(binarise(mask, 1), static_cast<double>(pixels));
  for (std::size_t i = 0; i < result.data.size(); ++i) {
    if (reach.data[i] == 0) result.data[i] = 0;
  }
  return result;
}

Box bounding_box(const Mask& mask) {
  int left = mask.width, right = 0, top = mask.height, bottom = 0;
  for (int y = 0; y < mask.height; ++y) {
    const std::uint8_t* row = mask.row(y);
    const std::uint8_t* end = row + mask.width;
    const auto is_set = [](std::uint8_t value) { return value != 0; };
    const std::uint8_t* first = std::find_if(row, end, is_set);
    if (first == end) continue;
    int last = mask.width;
    while (row[last - 1] == 0) --last;
    left = std::min(left, static_cast<int>(first - row));
    right = std::max(right, last);
    top = std::min(top, y);
    bottom = y + 1;
  }
  return right == 0 ? Box{} : Box{left, top, right - left, bottom - top};
}

Box crop_region(const Mask& mask, int padding, int target_width, int target_height) {
  const Box box = bounding_box(mask);
  if (box.empty()) return {};
  padding = std::clamp(padding, 0, 1 << 24);
  int left = std::max(0, box.left - padding), right = std::min(mask.width, box.left + box.width + padding);
  int top = std::max(0, box.top - padding), bottom = std::min(mask.height, box.top + box.height + padding);
  const double wanted = static_cast<double>(target_width) / target_height;
  if (static_cast<double>(right - left) / (bottom - top) > wanted) {
    lengthen(top, bottom, (right - left) / wanted, mask.height);
  } else {
    lengthen(left, right, (bottom - top) * wanted, mask.width);
  }
  return {left, top, right - left, bottom - top};
}

Mask binarise(const Mask& mask, int threshold) {
  Mask result = mask;
  for (std::uint8_t& value : result.data) value = value >= threshold ? 255 : 0;
  return result;
}

}  // namespace atelier::image
