#include <utility>

#include "image/alpha.h"
#include "image/blend.h"
#include "image/filter.h"
#include "image/pixel_math.h"

namespace atelier::image {

// Ever smaller blurs of what is not masked, laid over one another: far from the border only the widest one has
// anything to show.
Image fill_masked(const Image& image, const Mask& mask) {
  Image kept(image.width, image.height, 4);  // premultiplied
  for (std::size_t i = 0; i < mask.data.size(); ++i) {
    const int alpha = 255 - mask.data[i];
    for (std::size_t c = 0; c < 3; ++c) kept.data[4 * i + c] = multiply(image.data[3 * i + c], alpha);
    kept.data[4 * i + 3] = static_cast<std::uint8_t>(alpha);
  }
  Image result(image.width, image.height, 4);
  constexpr std::pair<float, int> kBlurs[] = {{256, 1}, {64, 1}, {16, 2}, {4, 4}, {2, 2}, {0, 1}};
  for (const auto& [sigma, repeats] : kBlurs) {
    const Image blurred = unpremultiply(gaussian_blur(kept, sigma));
    for (int i = 0; i < repeats; ++i) composite(result, blurred);
  }
  return to_rgb(result);
}

}  // namespace atelier::image
