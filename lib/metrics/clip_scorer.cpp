#include <algorithm>
#include <cmath>
#include <filesystem>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "io/weight_source.h"
#include "metrics/networks.h"
#include "models/clip/text_encoder.h"
#include "models/clip/vision_encoder.h"
#include "text/clip_tokenizer.h"

namespace atelier::metrics {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;

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

ClipScorer ClipScorer::open(const std::string& folder, at::Device device, at::ScalarType dtype,
                            ClipPreparation::Fit fit) {
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

at::Tensor ClipScorer::prepare(const image::Image& rgb) const { return prepare_picture(rgb, parts_.preparation); }

at::Tensor ClipScorer::picture_embeddings(const std::vector<at::Tensor>& prepared) const {
  const at::NoGradGuard no_grad;
  const at::Tensor planes = normalise_pictures(prepared, parts_.preparation, parts_.vision->device());
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

}  // namespace atelier::metrics
