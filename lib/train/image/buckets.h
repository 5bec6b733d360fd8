#pragma once

#include <compare>
#include <vector>

namespace atelier::train::image {

struct Size {
  int width = 0, height = 0;
  auto operator<=>(const Size&) const = default;
};

/// Which sizes pictures are trained in.
struct BucketOptions {
  Size resolution{512, 512};            ///< without buckets the one size; with them the area that none exceeds
  bool enabled = false;                 ///< aspect-ratio buckets
  int step = 64;                        ///< sides are multiples of it
  int min_side = 256, max_side = 1024;  ///< of a bucket
  bool no_upscale = false;              ///< pictures are never enlarged: a bucket of its own below each one's size

  bool operator==(const BucketOptions&) const = default;
};

/// Error(usage): a side that is not positive or no multiple of 8, a step that is none, a least side above the largest.
void check_buckets(const BucketOptions& options);

/// The buckets that there are, by width and then height: every width from the least to the largest in steps, with the largest
/// height whose area is within the resolution's, both ways round, and the square. Without buckets, or with no_upscale, the
/// resolution alone. Reference: sd-scripts, model_util.make_bucket_resolutions.
std::vector<Size> bucket_sizes(const BucketOptions& options);

/// How a picture gets into its bucket: resized so that it covers it, then cut to it.
struct BucketFit {
  Size bucket, resized;
};

/// The bucket of the nearest aspect ratio (the narrower of two that are equally near), and the size that covers it with the
/// picture's own proportions. With no_upscale: the picture's own size, made smaller where its area is above the resolution's,
/// cut to multiples of the step. `sizes`: bucket_sizes(options).
/// Reference: sd-scripts, train_util.BucketManager.select_bucket.
BucketFit fit_to_bucket(Size picture, const BucketOptions& options, const std::vector<Size>& sizes);

}  // namespace atelier::train::image
