#pragma once

#include "image/image.h"

namespace atelier::image {

/// Gaussian blur with standard deviation `sigma` in pixels, edges extended: Pillow's GaussianBlur(radius=sigma) bit
/// for bit (three extended box blurs each way). Reaches at most 3 * (box radius + 1) pixels, about 3 sigma. sigma 0
/// gives a copy.
Image gaussian_blur(const Image& image, float sigma);

/// Canny edges like OpenCV's Canny(image, low, high): Sobel 3x3, |dx| + |dy|, the strongest channel of each pixel,
/// non-maximum suppression, hysteresis over 8 neighbours. Alpha is dropped. Result: one channel, 0 or 255, as
/// ControlNet's canny models want it (spread it with to_rgb).
Image canny(const Image& image, int low = 100, int high = 200);

}  // namespace atelier::image
