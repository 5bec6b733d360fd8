#pragma once

#include "image/image.h"

namespace atelier::image {

/// Within the room: Pillow's arithmetic on pictures whose last channel is alpha.

/// RGBA to RGBa, LA to La.
Image premultiply(Image image);
/// And back; what is wholly transparent keeps its colours.
Image unpremultiply(Image image);
/// RGBA `over` on RGBA `picture`: Image.alpha_composite.
void composite(Image& picture, const Image& over);

}  // namespace atelier::image
