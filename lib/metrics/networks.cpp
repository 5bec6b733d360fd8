#include "metrics/networks.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/sha256.h"
#include "image/resize.h"
#include "io/weight_source.h"
#include "metrics/pictures.h"
#include "models/inception/inception.h"
#include "models/lpips/lpips.h"

namespace atelier::metrics {
namespace {

using base::Error;
using base::ExitCode;
using models::inception::InceptionV3;

/// (B, H, W, 3) -> (B, 3, H, W) f32, in channels-last memory.
at::Tensor to_planes(const at::Tensor& pictures) { return pictures.permute({0, 3, 1, 2}).to(at::kFloat); }

bool same_size(const std::vector<at::Tensor>& pictures) {
  return std::all_of(pictures.begin(), pictures.end(),
                     [&](const at::Tensor& picture) { return picture.sizes() == pictures.front().sizes(); });
}

/// pytorch-fid's own resizing, as torch.nn.functional.interpolate does it.
at::Tensor interpolated(const at::Tensor& pictures) {  // (B, H, W, 3) bytes -> (B, 3, 299, 299) in [-1, 1]
  const at::Tensor unit = to_planes(pictures) / 255.0;
  return 2 * at::upsample_bilinear2d(unit, {InceptionV3::side, InceptionV3::side}, /*align_corners=*/false) - 1;
}

std::shared_ptr<io::WeightSource> open_file(const std::string& file) { return io::WeightSource::open(file); }

std::vector<std::string> paths_of(const io::WeightSource& weights) {
  std::vector<std::string> paths;
  for (const io::WeightFile& file : weights.files()) paths.push_back(file.path);
  return paths;
}

}  // namespace

std::string weights_hash(const std::vector<std::string>& paths) {
  if (paths.size() == 1) return base::sha256_file(paths.front());
  std::string all;
  for (const std::string& path : paths)
    all += fmt::format("{}  {}\n", base::sha256_file(path), path.substr(path.rfind('/') + 1));
  return base::sha256_hex(all);
}

const char* variant_name(InceptionVariant variant) {
  return variant == InceptionVariant::clean_fid ? "clean-fid" : "pytorch-fid";
}

std::optional<InceptionVariant> parse_inception_variant(const std::string& name) {
  for (const auto variant : {InceptionVariant::pytorch_fid, InceptionVariant::clean_fid})
    if (name == variant_name(variant)) return variant;
  return std::nullopt;
}

Inception Inception::open(const std::string& file, at::Device device) {
  const auto weights = open_file(file);
  return {models::inception::load(*weights, device), weights_hash(paths_of(*weights))};
}

at::Tensor Inception::prepare(const image::Image& rgb, InceptionVariant variant) {
  if (variant == InceptionVariant::pytorch_fid) return to_byte_tensor(rgb);
  image::FloatImage values(rgb.width, rgb.height, rgb.channels);
  std::copy(rgb.data.begin(), rgb.data.end(), values.data.begin());  // 0 to 255
  constexpr int side = InceptionV3::side;
  image::FloatImage resized = image::resize(values, side, side, image::Filter::bicubic);
  for (float& value : resized.data) value = std::clamp(value, 0.0f, 255.0f);
  return at::from_blob(resized.data.data(), {side, side, 3}, at::kFloat).clone();
}

at::Tensor Inception::features(const std::vector<at::Tensor>& prepared, InceptionVariant variant) const {
  const at::NoGradGuard no_grad;
  const at::Device device = network_->device();
  at::Tensor x;  // (B, 3, 299, 299)
  if (variant == InceptionVariant::clean_fid) {
    x = (to_planes(at::stack(prepared).to(device)) - 128) / 128;
  } else if (same_size(prepared)) {
    x = interpolated(at::stack(prepared).to(device));
  } else {
    std::vector<at::Tensor> parts;
    for (const at::Tensor& picture : prepared) parts.push_back(interpolated(picture.unsqueeze(0).to(device)));
    x = at::cat(parts, 0);
  }
  return network_->forward(x).to(at::kCPU);
}

Lpips::Lpips(std::shared_ptr<const models::lpips::Network> network, std::string weights_sha256)
    : network_(std::move(network)),
      variant_(models::lpips::trunk_name(network_->trunk())),
      sha256_(std::move(weights_sha256)) {}

Lpips Lpips::open(const std::string& file, at::Device device) {
  const auto weights = open_file(file);
  return {models::lpips::load(*weights, device), weights_hash(paths_of(*weights))};
}

std::vector<at::Tensor> Lpips::features(const std::vector<at::Tensor>& pictures) const {
  const at::NoGradGuard no_grad;
  const at::Tensor bytes = at::stack(pictures);  // (B, H, W, 3)
  const std::int64_t least = network_->smallest_side();
  if (bytes.size(1) < least || bytes.size(2) < least)
    throw Error(ExitCode::data,
                fmt::format("pictures of {}x{} are too small for LPIPS with {}; {} pixels a side are wanted",
                            bytes.size(2), bytes.size(1), variant_, least));
  return network_->features(to_planes(bytes.to(network_->device())) / 127.5 - 1);
}

at::Tensor Lpips::distances(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) const {
  const at::NoGradGuard no_grad;
  return network_->distance(a, b).to(at::kCPU);
}

}  // namespace atelier::metrics
