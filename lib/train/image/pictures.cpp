#include "train/image/pictures.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/ones.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/sha256.h"
#include "image/read.h"
#include "image/resize.h"
#include "io/file_system.h"
#include "train/draws.h"

namespace atelier::train::image {
namespace {

using atelier::image::Image;
using base::Error;
using base::ExitCode;

constexpr std::size_t kMaxFileBytes = 512u << 20;

Image read_again(const std::string& path, const std::string& sha256) {
  const std::string bytes = io::read_file(path, kMaxFileBytes);
  if (base::sha256_hex(bytes) != sha256)
    throw Error(ExitCode::data, fmt::format("{}: has changed since it was first read", path));
  return std::move(atelier::image::decode_picture(bytes, path).image);
}

void mirror(Image& image) {
  const auto n = static_cast<std::size_t>(image.channels);
  for (int y = 0; y < image.height; ++y)
    for (int left = 0, right = image.width - 1; left < right; ++left, --right)
      std::swap_ranges(image.at(left, y), image.at(left, y) + n, image.at(right, y));
}

/// (C, H, W) u8, sharing the picture's memory.
at::Tensor bytes_of(const Image& image) {
  return at::from_blob(const_cast<std::uint8_t*>(image.data.data()), {image.height, image.width, image.channels},
                       at::kByte)
      .permute({2, 0, 1});
}

}  // namespace

CutPicture cut_picture(const PictureEntry& entry, bool mirrored, base::Generator* crop, bool masks, bool alpha_mask) {
  const Image original = read_again(entry.path, entry.sha256);
  const auto [bucket, resized] = entry.fit;
  CutPicture cut{atelier::image::resize(atelier::image::to_rgb(original), resized.width, resized.height), {}, 0, 0};
  if (masks && !entry.mask_path.empty())
    cut.mask = atelier::image::to_grey(read_again(entry.mask_path, entry.mask_sha256));
  else if (masks && (alpha_mask || entry.has_alpha))
    cut.mask = atelier::image::alpha_of(original);
  if (!cut.mask.empty())
    cut.mask = atelier::image::resize(cut.mask, resized.width, resized.height, atelier::image::Filter::box);
  const auto offset = [&](int spare) {
    return crop == nullptr ? spare / 2 : static_cast<int>(draw_below(*crop, static_cast<std::size_t>(spare) + 1));
  };
  cut.left = offset(resized.width - bucket.width);
  cut.top = offset(resized.height - bucket.height);
  for (Image* image : {&cut.picture, &cut.mask}) {
    if (image->empty()) continue;
    if (mirrored) mirror(*image);
    *image = atelier::image::crop(*image, {cut.left, cut.top, bucket.width, bucket.height});
  }
  return cut;
}

at::Tensor to_pixels(const Image& picture) {
  return ((bytes_of(picture).to(at::kFloat) / 255 - 0.5) / 0.5).contiguous();
}

at::Tensor to_latent_mask(const atelier::image::Mask& mask, Size size, int downscale) {
  if (mask.empty()) return at::ones({1, size.height / downscale, size.width / downscale}, at::kFloat);
  const at::Tensor values = bytes_of(mask).to(at::kFloat) / 255;  // (1, H, W)
  return at::avg_pool2d(values, {downscale, downscale});
}

}  // namespace atelier::train::image
