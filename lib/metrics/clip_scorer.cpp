#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "image/resize.h"
#include "io/weight_source.h"
#include "metrics/networks.h"
#include "metrics/pictures.h"
#include "models/clip/text_encoder.h"
#include "models/clip/vision_encoder.h"
#include "text/clip_tokenizer.h"

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

/// The middle of a picture; what it lacks is black. CLIPImageProcessor and HPSv2 put an odd row of black on different sides.
image::Image centre(const image::Image& picture, const ClipPreparation& p) {
  const auto place = [&](int from, std::int64_t to) {
    const int lacking = static_cast<int>(to) - from;
    return lacking <= 0 ? -(-lacking / 2) : (p.fit == Fit::pad ? lacking : lacking + 1) / 2;
  };
  image::Image result(static_cast<int>(p.crop_width), static_cast<int>(p.crop_height), picture.channels);
  image::paste(result, picture, place(picture.width, p.crop_width), place(picture.height, p.crop_height));
  return result;
}

/// Python's round: halves to even.
int rounded(double value) { return std::max(1, static_cast<int>(std::nearbyint(value))); }

image::Image resized(const image::Image& rgb, const ClipPreparation& p) {
  const image::Filter filter = filters()[static_cast<std::size_t>(p.filter)];
  if (p.fit == Fit::pad) {
    const double scale = static_cast<double>(p.crop_width) / std::max(rgb.width, rgb.height);
    return image::resize(rgb, rounded(rgb.width * scale), rounded(rgb.height * scale), filter);
  }
  if (p.resize_width > 0)
    return image::resize(rgb, static_cast<int>(p.resize_width), static_cast<int>(p.resize_height), filter);
  const std::int64_t side = p.shortest_edge, shorter = std::min(rgb.width, rgb.height);
  const auto scaled = [&](std::int64_t n) { return static_cast<int>(n == shorter ? side : side * n / shorter); };
  return image::resize(rgb, scaled(rgb.width), scaled(rgb.height), filter);
}

at::Tensor unit_length(const at::Tensor& rows) {  // (B, D)
  const at::Tensor values = rows.to(at::kCPU, at::kFloat);
  return values / at::linalg_vector_norm(values, 2, {-1}, /*keepdim=*/true);
}

std::shared_ptr<const text::ClipTokenizer> open_tokenizer(const std::string& folder) {
  std::error_code ignored;
  for (const char* file : {"vocab.json", "tokenizer.json"})
    if (fs::exists(fs::path(folder) / file, ignored)) return text::ClipTokenizer::open(folder);
  return text::ClipTokenizer::builtin(/*zero_pad=*/false);
}

/// How the folder wants its pictures; `side` is what the tower takes.
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

}  // namespace

std::vector<std::int64_t> ClipScorer::token_ids(const std::string& text) const {
  const auto length =
      static_cast<std::size_t>(std::min(parts_.tokenizer->max_length(), parts_.text->config().max_positions));
  std::vector<std::int64_t> ids{parts_.tokenizer->bos()};
  for (const text::TokenId id : parts_.tokenizer->encode(text)) ids.push_back(id);
  if (ids.size() + 1 > length) ids.resize(length - 1);
  ids.push_back(parts_.tokenizer->eos());
  return ids;
}

ClipScorer ClipScorer::open(const std::string& folder, at::Device device, at::ScalarType dtype, Fit fit) {
  const at::NoGradGuard no_grad;
  const std::string config_path = (fs::path(folder) / "config.json").native();
  const base::Json config = base::read_json_file(config_path);
  const auto vision_config = models::clip::parse_vision_config(config, config_path);
  const auto text_config = models::clip::parse_text_config(config, config_path);
  if (text_config.projection_dim != vision_config.projection_dim)
    throw Error(ExitCode::data, fmt::format("{}: is no CLIPModel: its towers end in {} and {} numbers", config_path,
                                            text_config.projection_dim, vision_config.projection_dim));
  Parts parts;
  parts.preparation = open_preparation(folder, vision_config.image_size);
  parts.preparation.fit = fit;
  const auto text = std::make_shared<models::clip::TextEncoder>(text_config);
  const auto vision = std::make_shared<models::clip::VisionEncoder>(vision_config);
  const auto weights = io::WeightSource::open(folder);
  nn::load_parameters(*text, *weights, nn::NameMap{}, dtype, device);
  nn::load_parameters(*vision, *weights, nn::NameMap{}, dtype, device);
  const at::Tensor scale = weights->load("logit_scale", at::kDouble, at::kCPU);
  if (scale.numel() != 1) throw Error(ExitCode::data, fmt::format("{}: logit_scale is not one number", folder));
  parts.logit_scale = std::exp(scale.item<double>());
  parts.text = text;
  parts.vision = vision;
  parts.tokenizer = open_tokenizer(folder);
  std::vector<std::string> paths;
  for (const io::WeightFile& file : weights->files()) paths.push_back(file.path);
  parts.weights_sha256 = weights_hash(paths);
  return ClipScorer(std::move(parts));
}

at::Tensor ClipScorer::prepare(const image::Image& rgb) const {
  return to_byte_tensor(centre(resized(rgb, parts_.preparation), parts_.preparation));
}

at::Tensor ClipScorer::picture_embeddings(const std::vector<at::Tensor>& prepared) const {
  const at::NoGradGuard no_grad;
  const ClipPreparation& p = parts_.preparation;
  const at::Device device = parts_.vision->device();
  const auto row = [&](const double (&v)[3]) { return at::tensor({v[0], v[1], v[2]}, at::kFloat).to(device); };
  const at::Tensor pictures = at::stack(prepared).to(device, at::kFloat) * p.rescale;  // (B, S, S, 3)
  const at::Tensor planes = ((pictures - row(p.mean)) / row(p.deviation)).permute({0, 3, 1, 2}).contiguous();
  return unit_length(parts_.vision->forward(planes.to(parts_.vision->dtype())));
}

at::Tensor ClipScorer::text_embeddings(const std::vector<std::string>& texts) const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> rows;  // one by one: each as long as it is, without padding
  for (const std::string& words : texts) {
    const at::Tensor ids = at::tensor(token_ids(words)).unsqueeze(0).to(parts_.text->device());
    rows.push_back(parts_.text->forward(ids).text_embeds.squeeze(0));
  }
  return unit_length(at::stack(rows));
}

const char* preference_name(PreferenceModel model) { return model == PreferenceModel::hpsv2 ? "hpsv2" : "pickscore"; }

std::optional<PreferenceModel> parse_preference_model(const std::string& name) {
  for (const auto model : {PreferenceModel::pickscore, PreferenceModel::hpsv2})
    if (name == preference_name(model)) return model;
  return std::nullopt;
}

Preference Preference::open(const std::string& folder, PreferenceModel model, at::Device device, at::ScalarType dtype) {
  const Fit fit = model == PreferenceModel::hpsv2 ? Fit::pad : Fit::as_configured;
  return {ClipScorer::open(folder, device, dtype, fit), model};
}

double Preference::score(double cosine) const {
  return model_ == PreferenceModel::hpsv2 ? 100 * cosine : clip_.logit_scale() * cosine;
}

}  // namespace atelier::metrics
