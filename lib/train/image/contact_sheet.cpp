#include <algorithm>
#include <map>
#include <vector>

#include "base/stop.h"
#include "image/grid.h"
#include "image/resize.h"
#include "train/image/dataset.h"

namespace atelier::train::image {
namespace {

using atelier::image::Image;

constexpr int kThumb = 192, kGap = 4, kColumns = 8;  // pixels of the longer side, between pictures, pictures in a row

Image thumb(const Image& picture) {
  const double scale = std::min(1.0, static_cast<double>(kThumb) / std::max(picture.width, picture.height));
  const auto side = [scale](int pixels) { return std::max(1, static_cast<int>(pixels * scale + 0.5)); };
  return atelier::image::resize(picture, side(picture.width), side(picture.height));
}

/// One above the other, a darker stripe between them.
Image stacked(const std::vector<Image>& grids) {
  int width = 0, height = -3 * kGap;
  for (const Image& grid : grids) {
    width = std::max(width, grid.width);
    height += grid.height + 3 * kGap;
  }
  Image sheet(width, height, 3, 96);
  int top = 0;
  for (const Image& grid : grids) {
    Image row(width, grid.height, 3, 255);
    atelier::image::paste(row, grid, 0, 0);
    atelier::image::paste(sheet, row, 0, top);
    top += grid.height + 3 * kGap;
  }
  return sheet;
}

}  // namespace

Image contact_sheet(const ImageDataset& data, std::size_t most) {
  std::map<Size, std::vector<Image>> of_size;
  for (const PictureEntry& entry : data.entries()) {
    auto& thumbs = of_size[entry.fit.bucket];
    if (thumbs.size() >= most) continue;
    base::throw_if_stopped();
    thumbs.push_back(thumb(cut_picture(entry, false, nullptr, false, false).picture));
  }
  std::vector<Image> grids;
  for (const auto& [size, thumbs] : of_size) grids.push_back(atelier::image::make_grid(thumbs, kColumns, kGap));
  return stacked(grids);
}

}  // namespace atelier::train::image
