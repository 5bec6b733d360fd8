#include <cmath>
#include <filesystem>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "io/weight_source.h"
#include "metrics/networks.h"
#include "models/blip/image_reward.h"
#include "text/bert_tokenizer.h"

namespace atelier::metrics {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kTokens = 35;  // of a text, [CLS] and [SEP] among them; what is longer is cut, as by the package

}  // namespace

ImageReward ImageReward::open(const std::string& folder, at::Device device, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  const std::string config_path = (fs::path(folder) / "config.json").native();
  const auto config = models::blip::parse_config(base::read_json_file(config_path), config_path);
  Parts parts;
  parts.preparation = open_preparation(folder, config.vision.image_size);
  parts.preparation.fit = ClipPreparation::Fit::torchvision;
  parts.tokenizer = text::BertTokenizer::open((fs::path(folder) / "vocab.txt").native());
  const auto network = std::make_shared<models::blip::ImageRewardNetwork>(config);
  const auto weights = io::WeightSource::open(folder);
  nn::load_parameters(*network, *weights, nn::NameMap{}, dtype, device);
  parts.network = network;
  std::vector<std::string> paths;
  for (const io::WeightFile& file : weights->files()) paths.push_back(file.path);
  parts.weights_sha256 = weights_hash(paths);
  return ImageReward(std::move(parts));
}

at::Tensor ImageReward::prepare(const image::Image& rgb) const { return prepare_picture(rgb, parts_.preparation); }

std::vector<std::int64_t> ImageReward::token_ids(const std::string& text) const {
  std::vector<std::int64_t> ids{parts_.tokenizer->cls()};
  for (const text::TokenId id : parts_.tokenizer->encode(text)) ids.push_back(id);
  if (ids.size() + 1 > kTokens) ids.resize(kTokens - 1);
  ids.push_back(parts_.tokenizer->sep());
  return ids;
}

std::vector<double> ImageReward::rewards(const std::vector<at::Tensor>& prepared,
                                         const std::vector<std::string>& texts) const {
  const at::NoGradGuard no_grad;
  const auto& network = *parts_.network;
  const at::Tensor pictures = normalise_pictures(prepared, parts_.preparation, network.device());
  const at::Tensor seen = network.see(pictures.to(network.dtype()));  // (B, T, hidden)
  std::vector<double> rewards;  // one by one: each text as long as it is, without padding
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const at::Tensor ids = at::tensor(token_ids(texts[i])).unsqueeze(0).to(network.device());
    rewards.push_back(network.reward(ids, seen.narrow(0, static_cast<std::int64_t>(i), 1)).item<double>());
  }
  return rewards;
}

}  // namespace atelier::metrics
