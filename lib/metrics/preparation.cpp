#include "metrics/preparation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include <ATen/TensorOperators.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "image/resize.h"
#include "metrics/pictures.h"

namespace atelier::metrics {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using Fit = ClipPreparation::Fit;

constexpr std::int64_t kLargest = 4096;  // pixels of a side, in preprocessor_config.json

std::array<image::Filter, 5> filters() {  // by Pillow's numbers
  using enum image::Filter;
  return {nearest, lanczos, bilinear, bicubic, box};
}

/// {"height", "width"}, or a number for both.
void read_square(const base::JsonFields& fields, const char* key, std::int64_t& height, std::int64_t& width) {
  const base::Json* value = fields.find(key);
  if (!value) return;
  if (value->is_object()) {
    const base::JsonFields sizes(*value, fmt::format("{}: {}", fields.what(), key));
    height = sizes.integer("height", 1, kLargest);
    width = sizes.integer("width", 1, kLargest);
  } else {
    height = width = fields.integer(key, 1, kLargest);
  }
}

void read_triple(const base::JsonFields& fields, const char* key, double low, double (&into)[3]) {
  const base::Json* list = fields.find(key);
  if (!list) return;
  const bool good =
      list->is_array() && list->size() == 3 && std::all_of(list->begin(), list->end(), [&](const base::Json& n) {
        return n.is_number() && n.get<double>() >= low && n.get<double>() <= 1e3;
      });
  if (!good)
    throw Error(ExitCode::data,
                fmt::format("{}: \"{}\" is no list of three numbers from {} to 1000", fields.what(), key, low));
  for (std::size_t i = 0; i < 3; ++i) into[i] = (*list)[i].get<double>();
}

/// preprocessor_config.json of a CLIPImageProcessor.
ClipPreparation parse_preparation(const base::Json& json, const std::string& what) {
  const base::JsonFields fields(json, what);
  for (const char* step : {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"})
    if (!fields.boolean_or(step, true))
      throw Error(ExitCode::data, fmt::format("{}: \"{}\" false is not supported", what, step));
  ClipPreparation p;
  if (const base::Json* size = fields.find("size"); size && size->is_object() && size->contains("height"))
    read_square(fields, "size", p.resize_height, p.resize_width);
  else if (size && size->is_object())
    p.shortest_edge = base::JsonFields(*size, what + ": size").integer("shortest_edge", 1, kLargest);
  else
    p.shortest_edge = fields.integer_or("size", 1, kLargest, p.shortest_edge);
  read_square(fields, "crop_size", p.crop_height, p.crop_width);
  read_triple(fields, "image_mean", -1e3, p.mean);
  read_triple(fields, "image_std", 1e-6, p.deviation);
  p.rescale = fields.number_or("rescale_factor", 1e-9, 1, p.rescale);
  p.filter = static_cast<int>(fields.integer_or("resample", 0, 4, p.filter));
  return p;
}

/// Python's round: halves to even.
int rounded(double value) { return static_cast<int>(std::nearbyint(value)); }

/// The middle of a picture; what it lacks is black. CLIPImageProcessor, torchvision and HPSv2 differ in the side of an odd row.
image::Image centre(const image::Image& picture, const ClipPreparation& p) {
  const auto place = [&](int from, std::int64_t to) {
    const int lacking = static_cast<int>(to) - from;
    if (lacking > 0) return (p.fit == Fit::pad ? lacking : lacking + 1) / 2;
    return p.fit == Fit::torchvision ? -rounded(-lacking / 2.0) : -(-lacking / 2);
  };
  image::Image result(static_cast<int>(p.crop_width), static_cast<int>(p.crop_height), picture.channels);
  image::paste(result, picture, place(picture.width, p.crop_width), place(picture.height, p.crop_height));
  return result;
}

image::Image resized(const image::Image& rgb, const ClipPreparation& p) {
  const image::Filter filter = filters()[static_cast<std::size_t>(p.filter)];
  if (p.fit == Fit::pad) {
    const double scale = static_cast<double>(p.crop_width) / std::max(rgb.width, rgb.height);
    const auto scaled = [&](int n) { return std::max(1, rounded(n * scale)); };
    return image::resize(rgb, scaled(rgb.width), scaled(rgb.height), filter);
  }
  if (p.resize_width > 0)
    return image::resize(rgb, static_cast<int>(p.resize_width), static_cast<int>(p.resize_height), filter);
  const std::int64_t side = p.shortest_edge, shorter = std::min(rgb.width, rgb.height);
  const auto scaled = [&](std::int64_t n) { return static_cast<int>(n == shorter ? side : side * n / shorter); };
  return image::resize(rgb, scaled(rgb.width), scaled(rgb.height), filter);
}

}  // namespace

ClipPreparation open_preparation(const std::string& folder, std::int64_t side) {
  const std::string path = (fs::path(folder) / "preprocessor_config.json").native();
  std::error_code ignored;
  ClipPreparation p;
  if (!fs::exists(path, ignored)) {
    p.shortest_edge = p.crop_width = p.crop_height = side;
    return p;
  }
  p = parse_preparation(base::read_json_file(path), path);
  if (p.crop_width != side || p.crop_height != side)
    throw Error(ExitCode::data, fmt::format("{}: pictures of {}x{} do not suit a vision tower of {}x{}", path,
                                            p.crop_width, p.crop_height, side, side));
  return p;
}

at::Tensor prepare_picture(const image::Image& rgb, const ClipPreparation& p) {
  return to_byte_tensor(centre(resized(rgb, p), p));
}

at::Tensor normalise_pictures(const std::vector<at::Tensor>& prepared, const ClipPreparation& p, at::Device device) {
  const auto row = [&](const double (&v)[3]) { return at::tensor({v[0], v[1], v[2]}, at::kFloat).to(device); };
  const at::Tensor pictures = at::stack(prepared).to(device, at::kFloat) * p.rescale;  // (B, S, S, 3)
  return ((pictures - row(p.mean)) / row(p.deviation)).permute({0, 3, 1, 2}).contiguous();
}

}  // namespace atelier::metrics
