#include "train/image/buckets.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <set>

#include <fmt/format.h>

#include "base/error.h"

namespace atelier::train::image {
namespace {

constexpr int kPixelsPerLatent = 8;  // of every autoencoder that the pictures are for

double aspect(Size size) { return static_cast<double>(size.width) / size.height; }

double area(Size size) { return static_cast<double>(size.width) * size.height; }

int rounded(double value) { return static_cast<int>(value + 0.5); }

int down_to(int value, int step) { return value - value % step; }

Size nearest_aspect(Size picture, const std::vector<Size>& sizes) {
  if (std::binary_search(sizes.begin(), sizes.end(), picture)) return picture;
  const double wanted = aspect(picture);
  return *std::min_element(sizes.begin(), sizes.end(), [wanted](Size a, Size b) {
    return std::abs(aspect(a) - wanted) < std::abs(aspect(b) - wanted);
  });
}

/// A picture above the area made smaller: one side a multiple of the step, the one whose rounding costs less proportion.
Size made_smaller(Size picture, const BucketOptions& options) {
  const double wanted = aspect(picture);
  const double width = std::sqrt(area(options.resolution) * wanted), height = area(options.resolution) / width;
  const auto to_step = [&](double side) { return std::max(down_to(rounded(side), options.step), options.step); };
  const int by_width = to_step(width), by_height = to_step(height);
  const double of_width = aspect({by_width, to_step(by_width / wanted)});
  const double of_height = aspect({to_step(by_height * wanted), by_height});
  if (std::abs(of_width - wanted) < std::abs(of_height - wanted)) return {by_width, rounded(by_width / wanted)};
  return {rounded(by_height * wanted), by_height};
}

}  // namespace

void check_buckets(const BucketOptions& options) {
  const auto require = [](bool good, const std::string& message) {
    if (!good) throw base::Error(base::ExitCode::usage, message);
  };
  const auto side = [&](const char* what, int value) {
    require(value > 0 && value % kPixelsPerLatent == 0,
            fmt::format("{} {} is not a multiple of {}", what, value, kPixelsPerLatent));
  };
  side("the resolution's width", options.resolution.width);
  side("the resolution's height", options.resolution.height);
  if (!options.enabled) return;
  side("the buckets' step", options.step);
  side("the buckets' least side", options.min_side);
  require(options.min_side <= options.max_side,
          fmt::format("the buckets' least side {} is above the largest, {}", options.min_side, options.max_side));
  require(area(options.resolution) >= area({options.step, options.step}),
          fmt::format("the buckets' step {} is more than the resolution", options.step));
}

std::vector<Size> bucket_sizes(const BucketOptions& options) {
  if (!options.enabled || options.no_upscale) return {options.resolution};
  const auto most = static_cast<std::int64_t>(area(options.resolution));
  const int square = down_to(static_cast<int>(std::sqrt(static_cast<double>(most))), options.step);
  std::set<Size> sizes{{square, square}};
  for (int width = options.min_side; width <= options.max_side; width += options.step) {
    const std::int64_t highest = std::min<std::int64_t>(most / width, options.max_side);
    const int height = down_to(static_cast<int>(highest), options.step);
    if (height < options.min_side) continue;
    sizes.insert({width, height});
    sizes.insert({height, width});
  }
  return {sizes.begin(), sizes.end()};
}

BucketFit fit_to_bucket(Size picture, const BucketOptions& options, const std::vector<Size>& sizes) {
  if (options.enabled && options.no_upscale) {
    const bool large = area(picture) > area(options.resolution);
    const Size resized = large ? made_smaller(picture, options) : picture;
    return {{down_to(resized.width, options.step), down_to(resized.height, options.step)}, resized};
  }
  const Size bucket = nearest_aspect(picture, sizes);
  const bool wider = aspect(picture) > aspect(bucket);
  const double scale =
      wider ? static_cast<double>(bucket.height) / picture.height : static_cast<double>(bucket.width) / picture.width;
  // Never below the bucket: what is rounded the other way would have to be filled up.
  return {bucket,
          {std::max(rounded(picture.width * scale), bucket.width),
           std::max(rounded(picture.height * scale), bucket.height)}};
}

}  // namespace atelier::train::image
