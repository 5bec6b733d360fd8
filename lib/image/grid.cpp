#include "image/grid.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace atelier::image {

Image make_grid(std::span<const Image> images, int columns, int gap, std::uint8_t background) {
  if (images.empty()) throw base::Error(base::ExitCode::internal, "make_grid: no pictures");
  const auto count = static_cast<std::int64_t>(images.size());
  std::int64_t across =
      columns > 0 ? columns : static_cast<std::int64_t>(std::ceil(std::sqrt(static_cast<double>(count))));
  across = std::min(across, count);
  const std::int64_t down = (count + across - 1) / across;
  int width = 0, height = 0;
  for (const Image& image : images) {
    width = std::max(width, image.width);
    height = std::max(height, image.height);
  }
  gap = std::max(gap, 0);
  const std::int64_t total_width = across * width + (across - 1) * gap, total_height = down * height + (down - 1) * gap;
  check_size(total_width, total_height, "grid");
  Image grid(static_cast<int>(total_width), static_cast<int>(total_height), 3, background);
  for (std::int64_t i = 0; i < count; ++i) {
    const Image image = to_rgb(images[static_cast<std::size_t>(i)]);
    const int left = static_cast<int>(i % across) * (width + gap) + (width - image.width) / 2;
    const int top = static_cast<int>(i / across) * (height + gap) + (height - image.height) / 2;
    paste(grid, image, left, top);
  }
  return grid;
}

}  // namespace atelier::image
