// After Pillow's BoxBlur.c: a Gaussian as three box blurs whose radius has a fraction (Gwosdek et al. 2011,
// "Theoretical foundations of Gaussian convolution by extended box filtering"), each rounded to 8 bits.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "image/filter.h"

namespace atelier::image {
namespace {

constexpr int kPasses = 3;

// The radius of each box for a Gaussian of this standard deviation.
float box_radius(float sigma) {
  const float variance = sigma * sigma / kPasses;
  const auto length = static_cast<float>(std::sqrt(12.0 * static_cast<double>(variance) + 1.0));
  const auto whole = static_cast<float>(std::floor((static_cast<double>(length) - 1.0) / 2.0));
  float fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
  fraction /= 6 * (variance - (whole + 1) * (whole + 1));
  return whole + fraction;
}

// A row of one channel, spread over `last + 1` samples that are `stride` apart.
struct Line {
  std::uint8_t* data;
  std::size_t stride;
};

class BoxBlur {
 public:
  explicit BoxBlur(float radius) : radius_(static_cast<int>(radius)) {
    weight_ = static_cast<std::uint32_t>(static_cast<float>(1 << 24) / (radius * 2 + 1));
    edge_weight_ = ((1u << 24) - static_cast<std::uint32_t>(radius_ * 2 + 1) * weight_) / 2;
  }

  void run(Line line, int size) {
    // The edges repeated, so that the sum needs no cases.
    const int pad = radius_ + 1;
    padded_.resize(static_cast<std::size_t>(size + 2 * pad));
    for (int i = 0; i < size; ++i)
      padded_[static_cast<std::size_t>(pad + i)] = line.data[static_cast<std::size_t>(i) * line.stride];
    std::fill_n(padded_.begin(), pad, padded_[static_cast<std::size_t>(pad)]);
    std::fill_n(padded_.end() - pad, pad, padded_[static_cast<std::size_t>(pad + size - 1)]);
    std::uint32_t sum = 0;
    for (int i = 1; i < 2 * pad - 1; ++i) sum += padded_[static_cast<std::size_t>(i)];
    for (int i = 0; i < size; ++i) {
      const std::uint8_t* window = padded_.data() + i;  // from one before the box to one behind it
      sum += window[2 * pad - 1];
      line.data[static_cast<std::size_t>(i) * line.stride] = static_cast<std::uint8_t>(
          (sum * weight_ + (window[0] + std::uint32_t{window[2 * pad]}) * edge_weight_ + (1u << 23)) >> 24);
      sum -= window[1];
    }
  }

 private:
  int radius_;
  std::uint32_t weight_, edge_weight_;
  std::vector<std::uint8_t> padded_;
};

}  // namespace

Image gaussian_blur(const Image& image, float sigma) {
  Image result = image;
  if (!(sigma > 0)) return result;
  BoxBlur blur(box_radius(sigma));
  const auto channels = static_cast<std::size_t>(image.channels);
  for (int y = 0; y < image.height; ++y) {
    for (std::size_t c = 0; c < channels; ++c) {
      for (int pass = 0; pass < kPasses; ++pass) blur.run({result.row(y) + c, channels}, image.width);
    }
  }
  for (std::size_t i = 0; i < image.row_size(); ++i) {
    for (int pass = 0; pass < kPasses; ++pass) blur.run({result.row(0) + i, image.row_size()}, image.height);
  }
  return result;
}

}  // namespace atelier::image
