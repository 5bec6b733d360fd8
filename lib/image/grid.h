#pragma once

#include <span>

#include "image/image.h"

namespace atelier::image {

/// A contact sheet, row by row: every cell as large as the largest picture, smaller ones in its middle, `gap` pixels
/// between cells. `columns` 0 takes the smallest square that holds all. Result: RGB on `background`. Error(data)
/// above kMaxPixels; Error(internal) for no pictures.
Image make_grid(std::span<const Image> images, int columns = 0, int gap = 0, std::uint8_t background = 255);

}  // namespace atelier::image
