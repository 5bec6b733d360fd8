#include "models/blip/image_reward.h"

#include <array>
#include <string>

#include "models/blip/text_encoder.h"
#include "models/blip/vision_encoder.h"

namespace atelier::models::blip {
namespace {

constexpr double kMean = 0.16717362830052426, kDeviation = 1.0333394966054072;  // of the head's numbers, published

struct HeadLayer {
  const char* name;  // between them the package has dropouts
  std::int64_t out;
};
constexpr std::array<HeadLayer, 5> kHead{{{"0", 1024}, {"2", 128}, {"4", 64}, {"6", 16}, {"7", 1}}};

}  // namespace

ImageRewardNetwork::ImageRewardNetwork(const Config& config) : config_(config) {
  vision_model_ = register_module("vision_model", std::make_shared<VisionEncoder>(config.vision));
  text_encoder_ = register_module("text_encoder", std::make_shared<TextEncoder>(config.text));
  const auto mlp = register_module("mlp", std::make_shared<nn::Group>());
  const auto layers = mlp->register_module("layers", std::make_shared<nn::Group>());
  std::int64_t in = config.text.hidden_size;
  for (const auto& [name, out] : kHead) {
    head_.push_back(layers->register_module(name, std::make_shared<nn::Linear>(in, out, true)));
    in = out;
  }
}

at::Tensor ImageRewardNetwork::see(const at::Tensor& pictures) const { return vision_model_->forward(pictures); }

at::Tensor ImageRewardNetwork::reward(const at::Tensor& ids, const at::Tensor& seen) const {
  auto x = text_encoder_->forward(ids, seen).select(1, 0);  // (B, hidden)
  for (const auto& layer : head_) x = layer->forward(x);
  return (x.squeeze(1).to(at::kFloat) - kMean) / kDeviation;
}

}  // namespace atelier::models::blip
