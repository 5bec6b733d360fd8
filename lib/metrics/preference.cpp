#include <array>
#include <utility>

#include <ATen/TensorOperators.h>

#include "metrics/networks.h"

namespace atelier::metrics {
namespace {

struct Name {
  PreferenceModel model;
  const char* name;
};
constexpr std::array<Name, 3> kNames{{{PreferenceModel::pickscore, "pickscore"},
                                      {PreferenceModel::hpsv2, "hpsv2"},
                                      {PreferenceModel::imagereward, "imagereward"}}};

}  // namespace

const char* preference_name(PreferenceModel model) {
  for (const Name& entry : kNames)
    if (entry.model == model) return entry.name;
  return "";
}

std::optional<PreferenceModel> parse_preference_model(const std::string& name) {
  for (const Name& entry : kNames)
    if (name == entry.name) return entry.model;
  return std::nullopt;
}

Preference Preference::open(const std::string& folder, PreferenceModel model, at::Device device, at::ScalarType dtype) {
  using Fit = ClipPreparation::Fit;
  if (model == PreferenceModel::imagereward) return Preference(ImageReward::open(folder, device, dtype));
  const Fit fit = model == PreferenceModel::hpsv2 ? Fit::pad : Fit::as_configured;
  return {ClipScorer::open(folder, device, dtype, fit), model};
}

at::Tensor Preference::prepare(const image::Image& rgb) const {
  return std::visit([&](const auto& network) { return network.prepare(rgb); }, network_);
}

std::vector<double> Preference::scores(const std::vector<at::Tensor>& prepared,
                                       const std::vector<std::string>& texts) const {
  if (const ImageReward* network = reward()) return network->rewards(prepared, texts);
  const at::Tensor cosines =
      (clip()->picture_embeddings(prepared).to(at::kDouble) * clip()->text_embeddings(texts)).sum(1);
  std::vector<double> scores;
  for (std::int64_t i = 0; i < cosines.size(0); ++i) scores.push_back(score(cosines[i].item<double>()));
  return scores;
}

const std::string& Preference::weights_sha256() const {
  return std::visit([](const auto& network) -> const std::string& { return network.weights_sha256(); }, network_);
}

double Preference::score(double cosine) const {
  return (model_ == PreferenceModel::hpsv2 ? 100 : clip()->logit_scale()) * cosine;
}

}  // namespace atelier::metrics
