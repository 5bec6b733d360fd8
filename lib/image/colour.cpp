#include "image/colour.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "base/error.h"
#include "image/luminosity.h"
#include "image/pixel_math.h"

namespace atelier::image {
namespace {

// CIE Lab of sRGB under D65. L from 0 to 100, a and b around 0.
constexpr std::array<std::array<double, 3>, 3> kRgbToXyz = {
    {{0.412453, 0.357580, 0.180423}, {0.212671, 0.715160, 0.072169}, {0.019334, 0.119193, 0.950227}}};
constexpr std::array<std::array<double, 3>, 3> kXyzToRgb = {
    {{3.240479, -1.537150, -0.498535}, {-0.969256, 1.875991, 0.041556}, {0.055648, -0.204043, 1.057311}}};
constexpr std::array<double, 3> kWhite = {0.950456, 1.0, 1.088754};
constexpr double kLinearLimit = 0.008856, kLinearSlope = 7.787, kLinearOffset = 16.0 / 116.0;

using Triple = std::array<double, 3>;

Triple times(const std::array<Triple, 3>& matrix, const Triple& v) {
  Triple result{};
  for (std::size_t i = 0; i < 3; ++i) result[i] = matrix[i][0] * v[0] + matrix[i][1] * v[1] + matrix[i][2] * v[2];
  return result;
}

const std::array<double, 256>& linear_light() {
  static const std::array<double, 256> table = [] {
    std::array<double, 256> values{};
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double c = static_cast<double>(i) / 255;
      values[i] = c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
    }
    return values;
  }();
  return table;
}

Triple to_lab(const std::uint8_t* rgb) {
  const auto& linear = linear_light();
  Triple f = times(kRgbToXyz, {linear[rgb[0]], linear[rgb[1]], linear[rgb[2]]});
  for (std::size_t i = 0; i < 3; ++i) {
    const double t = f[i] / kWhite[i];
    f[i] = t > kLinearLimit ? std::cbrt(t) : kLinearSlope * t + kLinearOffset;
  }
  return {116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])};
}

std::array<std::uint8_t, 3> to_rgb_bytes(const Triple& lab) {
  const double fy = (lab[0] + 16) / 116;
  Triple xyz = {fy + lab[1] / 500, fy, fy - lab[2] / 200};
  for (std::size_t i = 0; i < 3; ++i) {
    const double cube = xyz[i] * xyz[i] * xyz[i];
    xyz[i] = kWhite[i] * (cube > kLinearLimit ? cube : (xyz[i] - kLinearOffset) / kLinearSlope);
  }
  const Triple linear = times(kXyzToRgb, xyz);
  std::array<std::uint8_t, 3> rgb;
  for (std::size_t i = 0; i < 3; ++i) {
    const double c = std::clamp(linear[i], 0.0, 1.0);
    rgb[i] = to_byte(static_cast<float>(255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * std::pow(c, 1 / 2.4) - 0.055)));
  }
  return rgb;
}

// Whether pixel i counts; an empty mask counts all.
bool counts(const Mask& mask, std::size_t i) { return mask.empty() || mask.data[i] != 0; }

struct Moments {
  Triple mean{}, deviation{};
};

Moments moments(const Image& image, const Mask& mask) {
  Triple sum{}, squares{};
  double n = 0;
  for (std::size_t i = 0; i < image.pixels(); ++i) {
    if (!counts(mask, i)) continue;
    const Triple lab = to_lab(image.data.data() + 3 * i);
    n += 1;
    for (std::size_t c = 0; c < 3; ++c) {
      sum[c] += lab[c];
      squares[c] += lab[c] * lab[c];
    }
  }
  Moments result;
  for (std::size_t c = 0; c < 3 && n > 0; ++c) {
    result.mean[c] = sum[c] / n;
    result.deviation[c] = std::sqrt(std::max(0.0, squares[c] / n - result.mean[c] * result.mean[c]));
  }
  return result;
}

Image match_moments(const Image& image, const Image& reference, const Mask& mask) {
  const Moments from = moments(image, mask), to = moments(reference, {});
  Image result = image;
  for (std::size_t i = 0; i < image.pixels(); ++i) {
    if (!counts(mask, i)) continue;
    Triple lab = to_lab(image.data.data() + 3 * i);
    for (std::size_t c = 0; c < 3; ++c) {
      const double stretch = from.deviation[c] > 1e-6 ? to.deviation[c] / from.deviation[c] : 1.0;
      lab[c] = (lab[c] - from.mean[c]) * stretch + to.mean[c];
    }
    const auto rgb = to_rgb_bytes(lab);
    std::copy(rgb.begin(), rgb.end(), result.data.begin() + static_cast<std::ptrdiff_t>(3 * i));
  }
  return result;
}

// Lab in bytes as OpenCV keeps it.
std::array<std::uint8_t, 3> lab_bytes(const std::uint8_t* rgb) {
  const Triple lab = to_lab(rgb);
  return {to_byte(static_cast<float>(lab[0] * 255 / 100)), to_byte(static_cast<float>(lab[1] + 128)),
          to_byte(static_cast<float>(lab[2] + 128))};
}

struct Histograms {
  std::array<std::array<double, 256>, 3> shares{};  // cumulative: of the pixels with at most this value
  std::array<std::array<bool, 256>, 3> seen{};
};

Histograms histograms(const Image& image, const Mask& mask) {
  Histograms result;
  double n = 0;
  for (std::size_t i = 0; i < image.pixels(); ++i) {
    if (!counts(mask, i)) continue;
    const auto lab = lab_bytes(image.data.data() + 3 * i);
    n += 1;
    for (std::size_t c = 0; c < 3; ++c) {
      result.shares[c][lab[c]] += 1;
      result.seen[c][lab[c]] = true;
    }
  }
  for (auto& shares : result.shares) {
    double sum = 0;
    for (double& share : shares) {
      sum += share;
      share = n > 0 ? sum / n : 0;
    }
  }
  return result;
}

// For each value the reference's value at the same share, interpolated (skimage.exposure.match_histograms; truncated
// to bytes).
std::array<std::uint8_t, 256> lookup(const std::array<double, 256>& from, const std::array<double, 256>& to,
                                     const std::array<bool, 256>& seen) {
  std::vector<std::pair<double, double>> points;
  for (std::size_t v = 0; v < 256; ++v) {
    if (seen[v]) points.emplace_back(to[v], static_cast<double>(v));
  }
  std::array<std::uint8_t, 256> table{};
  for (std::size_t v = 0; v < 256; ++v) {
    const auto above = std::lower_bound(points.begin(), points.end(), from[v],
                                        [](const auto& p, double share) { return p.first < share; });
    double value = 0;
    if (above == points.begin()) {
      value = points.front().second;
    } else if (above == points.end()) {
      value = points.back().second;
    } else {
      const auto below = above - 1;
      value =
          below->second + (from[v] - below->first) / (above->first - below->first) * (above->second - below->second);
    }
    table[v] = static_cast<std::uint8_t>(value);
  }
  return table;
}

Colour unit_colour(const std::uint8_t* rgb) {
  return {static_cast<float>(rgb[0]) / 255, static_cast<float>(rgb[1]) / 255, static_cast<float>(rgb[2]) / 255};
}

Image match_by_histogram(const Image& image, const Image& reference, const Mask& mask) {
  const Histograms from = histograms(image, mask), to = histograms(reference, {});
  std::array<std::array<std::uint8_t, 256>, 3> tables;
  for (std::size_t c = 0; c < 3; ++c) tables[c] = lookup(from.shares[c], to.shares[c], to.seen[c]);
  Image result = image;
  for (std::size_t i = 0; i < image.pixels(); ++i) {
    if (!counts(mask, i)) continue;
    const std::uint8_t* old = image.data.data() + 3 * i;
    const auto lab = lab_bytes(old);
    const auto matched =
        to_rgb_bytes({tables[0][lab[0]] * 100.0 / 255, tables[1][lab[1]] - 128.0, tables[2][lab[2]] - 128.0});
    const Colour colour = with_luminosity(unit_colour(matched.data()), luminosity_of(unit_colour(old)));
    for (std::size_t c = 0; c < 3; ++c) result.data[3 * i + c] = to_byte(colour[c] * 255);
  }
  return result;
}

}  // namespace

std::optional<ColourMatch> parse_colour_match(std::string_view name) {
  if (name == "none") return ColourMatch::none;
  if (name == "mean") return ColourMatch::mean;
  if (name == "histogram") return ColourMatch::histogram;
  return std::nullopt;
}

Image match_colours(const Image& image, const Image& reference, ColourMatch match, const Mask& mask) {
  if (image.channels != 3 || reference.channels != 3 || (!mask.empty() && !mask.same_size(image))) {
    throw base::Error(base::ExitCode::internal,
                      "match_colours: RGB pictures and a mask of the first one's size are needed");
  }
  switch (match) {
    case ColourMatch::mean: return match_moments(image, reference, mask);
    case ColourMatch::histogram: return match_by_histogram(image, reference, mask);
    default: return image;
  }
}

}  // namespace atelier::image
