// J. Canny, "A computational approach to edge detection", 1986, in OpenCV's arithmetic.
#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "image/filter.h"

namespace atelier::image {
namespace {

struct Plane {
  Plane(int w, int h) : width(static_cast<std::size_t>(w)), data(width * static_cast<std::size_t>(h)) {}
  int* at(int x, int y) { return data.data() + static_cast<std::size_t>(y) * width + x; }
  const int* at(int x, int y) const { return data.data() + static_cast<std::size_t>(y) * width + x; }

  std::size_t width;
  std::vector<int> data;
};

// Of each pixel the gradient of its strongest channel.
struct Gradients {
  Gradients(int width, int height) : dx(width, height), dy(width, height), size(width + 2, height + 2) {}

  Plane dx, dy, size;  // size: |dx| + |dy|, with a border of zeros one pixel wide
};

Gradients sobel(const Image& image, int channels) {
  Gradients result(image.width, image.height);
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* rows[3] = {image.row(std::max(0, y - 1)), image.row(y),
                                   image.row(std::min(image.height - 1, y + 1))};
    for (int x = 0; x < image.width; ++x) {
      const int left = std::max(0, x - 1) * image.channels, middle = x * image.channels;
      const int right = std::min(image.width - 1, x + 1) * image.channels;
      int best = -1;
      for (int c = 0; c < channels; ++c) {
        const auto at = [&](int row, int column) { return static_cast<int>(rows[row][column + c]); };
        const int dx = at(0, right) - at(0, left) + 2 * (at(1, right) - at(1, left)) + at(2, right) - at(2, left);
        const int dy = at(2, left) - at(0, left) + 2 * (at(2, middle) - at(0, middle)) + at(2, right) - at(0, right);
        const int size = std::abs(dx) + std::abs(dy);
        if (size <= best) continue;
        best = size;
        *result.dx.at(x, y) = dx;
        *result.dy.at(x, y) = dy;
      }
      *result.size.at(x + 1, y + 1) = best;
    }
  }
  return result;
}

// Whether the gradient is largest here along its own direction, which counts as one of four.
bool is_ridge(const Gradients& g, int x, int y) {
  constexpr int kTangent22 = 13573;  // tan(22.5 degrees) * 2^15
  const int* m = g.size.at(x + 1, y + 1);
  const std::ptrdiff_t below = static_cast<std::ptrdiff_t>(g.size.width);
  const int dx = *g.dx.at(x, y), dy = *g.dy.at(x, y);
  const int low = std::abs(dx) * kTangent22, high = low + (std::abs(dx) << 16), steep = std::abs(dy) << 15;
  if (steep < low) return m[0] > m[-1] && m[0] >= m[1];
  if (steep > high) return m[0] > m[-below] && m[0] >= m[below];
  const int side = (dx ^ dy) < 0 ? -1 : 1;
  return m[0] > m[-below - side] && m[0] > m[below + side];
}

}  // namespace

Image canny(const Image& image, int low, int high) {
  if (low > high) std::swap(low, high);
  const Gradients gradients = sobel(image, image.channels < 3 ? 1 : 3);
  constexpr std::uint8_t kWeak = 1, kEdge = 255;
  Image result(image.width, image.height, 1);
  std::vector<std::pair<int, int>> open;
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      const int size = *gradients.size.at(x + 1, y + 1);
      if (size <= low || !is_ridge(gradients, x, y)) continue;
      *result.at(x, y) = size > high ? kEdge : kWeak;
      if (size > high) open.emplace_back(x, y);
    }
  }
  while (!open.empty()) {  // weak pixels that hang together with strong ones are edges too
    const auto [x, y] = open.back();
    open.pop_back();
    for (int v = std::max(0, y - 1); v <= std::min(image.height - 1, y + 1); ++v) {
      for (int u = std::max(0, x - 1); u <= std::min(image.width - 1, x + 1); ++u) {
        if (*result.at(u, v) != kWeak) continue;
        *result.at(u, v) = kEdge;
        open.emplace_back(u, v);
      }
    }
  }
  for (std::uint8_t& value : result.data) value = value == kEdge ? kEdge : 0;
  return result;
}

}  // namespace atelier::image
