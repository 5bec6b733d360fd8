// After Pillow's Resample.c: first the rows, then the columns, coefficients in 22-bit fixed point, 8 bits between the
// two passes.
#include "image/resize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include "image/alpha.h"

namespace atelier::image {
namespace {

constexpr int kPrecisionBits = 22;

double box_filter(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear_filter(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

double bicubic_filter(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double sinc(double x) { return x == 0.0 ? 1.0 : std::sin(x * std::numbers::pi) / (x * std::numbers::pi); }

double lanczos_filter(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Kernel {
  double (*weight)(double);
  double support;
};

Kernel kernel_of(Filter filter) {
  switch (filter) {
    case Filter::box: return {box_filter, 0.5};
    case Filter::bilinear: return {bilinear_filter, 1.0};
    case Filter::bicubic: return {bicubic_filter, 2.0};
    default: return {lanczos_filter, 3.0};
  }
}

// For each result pixel the first source pixel and the weights from there on.
struct Taps {
  int size = 0;  // weights per pixel, of which `count` are used
  std::vector<int> first, count;
  std::vector<double> weights;

  const double* of(int i) const {
    return weights.data() + static_cast<std::size_t>(i) * static_cast<std::size_t>(size);
  }
};

Taps make_taps(int from, int to, const Kernel& kernel) {
  const double scale = static_cast<double>(from) / to, filter_scale = std::max(scale, 1.0);
  const double support = kernel.support * filter_scale;
  Taps taps;
  taps.size = static_cast<int>(std::ceil(support)) * 2 + 1;
  taps.weights.resize(static_cast<std::size_t>(to) * static_cast<std::size_t>(taps.size));
  for (int i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - support + 0.5));
    const int count = std::min(from, static_cast<int>(centre + support + 0.5)) - first;
    double* weights = taps.weights.data() + static_cast<std::size_t>(i) * static_cast<std::size_t>(taps.size);
    double sum = 0;
    for (int k = 0; k < count; ++k) {
      weights[k] = kernel.weight((k + first - centre + 0.5) / filter_scale);
      sum += weights[k];
    }
    for (int k = 0; k < count && sum != 0; ++k) weights[k] /= sum;
    taps.first.push_back(first);
    taps.count.push_back(count);
  }
  return taps;
}

std::vector<std::int32_t> fixed_point(const Taps& taps) {
  std::vector<std::int32_t> result;
  result.reserve(taps.weights.size());
  for (const double weight : taps.weights) {
    result.push_back(static_cast<std::int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kPrecisionBits)));
  }
  return result;
}

// How a sum of weighted samples of T begins, goes on, and ends.
struct ByteSums {
  using Sample = std::uint8_t;
  using Sum = std::int32_t;
  explicit ByteSums(const Taps& taps) : weights(fixed_point(taps)) {}
  static Sum start() { return 1 << (kPrecisionBits - 1); }
  static Sample end(Sum sum) { return static_cast<Sample>(std::clamp(sum >> kPrecisionBits, 0, 255)); }
  std::vector<std::int32_t> weights;
};

struct FloatSums {
  using Sample = float;
  using Sum = double;
  explicit FloatSums(const Taps& taps) : weights(taps.weights) {}
  static Sum start() { return 0; }
  static Sample end(Sum sum) { return static_cast<Sample>(sum); }
  const std::vector<double>& weights;
};

template <typename Sums, typename Picture = Raster<typename Sums::Sample>>
Picture resize_rows(const Picture& from, int width, const Kernel& kernel) {
  const Taps taps = make_taps(from.width, width, kernel);
  const Sums sums(taps);
  const int channels = from.channels;
  Picture to(width, from.height, channels);
  for (int y = 0; y < to.height; ++y) {
    for (int x = 0; x < width; ++x) {
      const auto* weights = sums.weights.data() + static_cast<std::size_t>(x) * static_cast<std::size_t>(taps.size);
      const auto index = static_cast<std::size_t>(x);
      for (int c = 0; c < channels; ++c) {
        const auto* sample = from.at(taps.first[index], y) + c;
        auto sum = Sums::start();
        for (int k = 0; k < taps.count[index]; ++k) sum += sample[k * channels] * weights[k];
        to.at(x, y)[c] = Sums::end(sum);
      }
    }
  }
  return to;
}

template <typename Sums, typename Picture = Raster<typename Sums::Sample>>
Picture resize_columns(const Picture& from, int height, const Kernel& kernel) {
  const Taps taps = make_taps(from.height, height, kernel);
  const Sums sums(taps);
  Picture to(from.width, height, from.channels);
  std::vector<typename Sums::Sum> row(from.row_size());
  for (int y = 0; y < height; ++y) {
    const auto* weights = sums.weights.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(taps.size);
    std::fill(row.begin(), row.end(), Sums::start());
    for (int k = 0; k < taps.count[static_cast<std::size_t>(y)]; ++k) {
      const auto* samples = from.row(taps.first[static_cast<std::size_t>(y)] + k);
      for (std::size_t i = 0; i < row.size(); ++i) row[i] += samples[i] * weights[k];
    }
    std::transform(row.begin(), row.end(), to.row(y), Sums::end);
  }
  return to;
}

template <typename Sums, typename Picture>
Picture resample(const Picture& image, int width, int height, Filter filter) {
  const Kernel kernel = kernel_of(filter);
  check_size(width, image.height, "resized picture");  // what lies between the passes
  const Picture& rows = width == image.width ? image : resize_rows<Sums>(image, width, kernel);
  return height == image.height ? rows : resize_columns<Sums>(rows, height, kernel);
}

template <typename Picture>
Picture resize_nearest(const Picture& image, int width, int height) {
  Picture result(width, height, image.channels);
  const double scale_x = static_cast<double>(image.width) / width, scale_y = static_cast<double>(image.height) / height;
  double at_y = scale_y * 0.5;  // added up as Pillow does, which decides ties
  for (int y = 0; y < height; ++y, at_y += scale_y) {
    const int from_y = std::min(static_cast<int>(at_y), image.height - 1);
    double at_x = scale_x * 0.5;
    for (int x = 0; x < width; ++x, at_x += scale_x) {
      const int from_x = std::min(static_cast<int>(at_x), image.width - 1);
      std::copy_n(image.at(from_x, from_y), image.channels, result.at(x, y));
    }
  }
  return result;
}

// Repeats the edges of the box that is filled into the rest of the picture.
void repeat_edges(Image& image, const Box& filled) {
  for (int y = filled.top; y < filled.top + filled.height; ++y) {
    for (int x = 0; x < filled.left; ++x) std::copy_n(image.at(filled.left, y), image.channels, image.at(x, y));
    const int right = filled.left + filled.width;
    for (int x = right; x < image.width; ++x) std::copy_n(image.at(right - 1, y), image.channels, image.at(x, y));
  }
  const int bottom = filled.top + filled.height;
  for (int y = 0; y < filled.top; ++y) std::copy_n(image.row(filled.top), image.row_size(), image.row(y));
  for (int y = bottom; y < image.height; ++y) std::copy_n(image.row(bottom - 1), image.row_size(), image.row(y));
}

}  // namespace

Image resize(const Image& image, int width, int height, Filter filter) {
  check_size(width, height, "resized picture");
  if (width == image.width && height == image.height) return image;
  if (filter == Filter::nearest) return resize_nearest(image, width, height);
  if (image.channels == 1 || image.channels == 3) return resample<ByteSums>(image, width, height, filter);
  return unpremultiply(resample<ByteSums>(premultiply(image), width, height, filter));
}

FloatImage resize(const FloatImage& image, int width, int height, Filter filter) {
  check_size(width, height, "resized picture");
  if (width == image.width && height == image.height) return image;
  if (filter == Filter::nearest) return resize_nearest(image, width, height);
  return resample<FloatSums>(image, width, height, filter);
}

Fit fit_plan(int from_width, int from_height, int width, int height, ResizeMode mode) {
  Fit plan{width, height, 0, 0};
  if (mode == ResizeMode::stretch) return plan;
  const std::int64_t wide = std::int64_t{width} * from_height, high = std::int64_t{height} * from_width;
  const bool full_width = mode == ResizeMode::crop ? wide > high : wide < high;
  if (full_width) {
    plan.height = std::max(1, static_cast<int>(std::int64_t{from_height} * width / from_width));
  } else {
    plan.width = std::max(1, static_cast<int>(std::int64_t{from_width} * height / from_height));
  }
  plan.left = width / 2 - plan.width / 2;
  plan.top = height / 2 - plan.height / 2;
  return plan;
}

namespace {

Image place(const Image& image, const Fit& plan, int width, int height, Filter filter) {
  const Image scaled = resize(image, plan.width, plan.height, filter);
  Image result(width, height, image.channels);
  paste(result, scaled, plan.left, plan.top);
  return result;
}

}  // namespace

Image fit(const Image& image, int width, int height, ResizeMode mode, Filter filter) {
  const Fit plan = fit_plan(image.width, image.height, width, height, mode);
  Image result = place(image, plan, width, height, filter);
  const int left = std::max(0, plan.left), top = std::max(0, plan.top);
  repeat_edges(result, {left, top, std::min(width, plan.left + plan.width) - left,
                        std::min(height, plan.top + plan.height) - top});
  return result;
}

Mask fit_mask(const Mask& mask, int width, int height, ResizeMode mode, Filter filter) {
  return place(mask, fit_plan(mask.width, mask.height, width, height, mode), width, height, filter);
}

std::optional<ResizeMode> parse_resize_mode(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, ResizeMode>, 3> kNames = {
      {{"stretch", ResizeMode::stretch}, {"crop", ResizeMode::crop}, {"pad", ResizeMode::pad}}};
  for (const auto& [known, mode] : kNames) {
    if (name == known) return mode;
  }
  return std::nullopt;
}

std::optional<Filter> parse_filter(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, Filter>, 5> kNames = {{{"nearest", Filter::nearest},
                                                                          {"box", Filter::box},
                                                                          {"bilinear", Filter::bilinear},
                                                                          {"bicubic", Filter::bicubic},
                                                                          {"lanczos", Filter::lanczos}}};
  for (const auto& [known, filter] : kNames) {
    if (name == known) return filter;
  }
  return std::nullopt;
}

}  // namespace atelier::image
