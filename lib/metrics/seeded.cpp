#include "metrics/seeded.h"

#include <cmath>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include "base/seeded_numbers.h"
#include "models/blip/image_reward.h"
#include "models/clip/text_encoder.h"
#include "models/clip/vision_encoder.h"
#include "models/inception/inception.h"
#include "models/lpips/lpips.h"
#include "text/bert_tokenizer.h"
#include "text/clip_tokenizer.h"

namespace atelier::metrics {

at::Tensor seeded(const std::string& name, at::IntArrayRef shape, double scale, double shift) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  base::SeededNumbers numbers(name);
  auto* data = tensor.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) data[i] = static_cast<float>(numbers.next() * scale + shift);
  return tensor;
}

at::Tensor seeded_weight(const std::string& name, at::IntArrayRef shape) {
  if (name.ends_with("running_var")) return seeded(name, shape, 0.3, 1);
  if (shape.size() == 1) return name.ends_with("weight") ? seeded(name, shape, 0.2, 1) : seeded(name, shape, 0.1);
  if (name.starts_with("lin")) return seeded(name, shape, 0.5, 0.5);
  if (name.find("embedding.") != std::string::npos && shape.size() == 2) return seeded(name, shape, 0.5);
  std::int64_t fan_in = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) fan_in *= shape[i];
  return seeded(name, shape, std::sqrt(6.0 / static_cast<double>(fan_in)));
}

void fill_seeded(nn::Module& module) {
  for (auto& entry : module.named_parameters())
    entry.value().set_data(seeded_weight(entry.key(), entry.value().sizes()));
}

image::Image seeded_picture(const std::string& name, int width, int height) {
  base::SeededNumbers numbers(name);
  int start[3], across[3], down[3];
  for (int& value : start) value = static_cast<int>((numbers.next() + 1) * 128);
  for (int& value : across) value = static_cast<int>(numbers.next() * 8);
  for (int& value : down) value = static_cast<int>(numbers.next() * 8);
  image::Image picture(width, height, 3);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        const int noise = static_cast<int>(numbers.next() * 24);
        picture.at(x, y)[c] = static_cast<std::uint8_t>((start[c] + across[c] * x + down[c] * y + noise) & 255);
      }
  return picture;
}

Inception seeded_inception() {
  const at::NoGradGuard no_grad;
  auto network = std::make_shared<models::inception::InceptionV3>();
  fill_seeded(*network);
  network->fold();
  return {std::move(network), "seeded"};
}

Lpips seeded_lpips(const std::string& trunk) {
  using models::lpips::Trunk;
  auto network = std::make_shared<models::lpips::Network>(trunk == "vgg"       ? Trunk::vgg
                                                          : trunk == "squeeze" ? Trunk::squeeze
                                                                               : Trunk::alex);
  fill_seeded(*network);
  return {std::move(network), "seeded"};
}

ClipScorer seeded_clip(ClipPreparation::Fit fit) {
  models::clip::TextConfig text;
  text.hidden_size = 32;
  text.intermediate_size = 64;
  text.layers = 2;
  text.heads = 4;
  text.projection_dim = 24;
  models::clip::VisionConfig vision;
  vision.hidden_size = 32;
  vision.intermediate_size = 64;
  vision.layers = 2;
  vision.heads = 4;
  vision.image_size = 32;
  vision.patch_size = 8;
  vision.projection_dim = 24;
  const auto text_tower = std::make_shared<models::clip::TextEncoder>(text);
  const auto vision_tower = std::make_shared<models::clip::VisionEncoder>(vision);
  fill_seeded(*text_tower);
  fill_seeded(*vision_tower);
  ClipScorer::Parts parts;
  parts.text = text_tower;
  parts.vision = vision_tower;
  parts.tokenizer = text::ClipTokenizer::builtin(/*zero_pad=*/false);
  parts.preparation.fit = fit;
  parts.preparation.shortest_edge = parts.preparation.crop_width = parts.preparation.crop_height = vision.image_size;
  parts.logit_scale = std::exp(2.5);
  parts.weights_sha256 = "seeded";
  return ClipScorer(std::move(parts));
}

ImageReward seeded_image_reward() {
  std::vector<std::string> pieces{"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
  for (const char* begin : {"", "##"})
    for (const char c : std::string("abcdefghijklmnopqrstuvwxyz0123456789")) pieces.push_back(std::string(begin) + c);
  for (const char* mark : {"!", ",", ".", "'"}) pieces.emplace_back(mark);
  models::blip::Config config;
  config.vision.hidden_size = config.text.picture_size = 48;
  config.vision.intermediate_size = 64;
  config.vision.image_size = 32;
  config.vision.patch_size = 8;
  config.text.hidden_size = 32;
  config.text.intermediate_size = 40;
  config.text.max_positions = 40;
  config.text.vocab_size = static_cast<std::int64_t>(pieces.size());
  config.vision.layers = config.vision.heads = config.text.layers = config.text.heads = 2;
  const auto network = std::make_shared<models::blip::ImageRewardNetwork>(config);
  fill_seeded(*network);
  ImageReward::Parts parts{network, std::make_shared<const text::BertTokenizer>(pieces, "letters"), {}, "seeded"};
  parts.preparation.fit = ClipPreparation::Fit::torchvision;
  parts.preparation.shortest_edge = parts.preparation.crop_width = parts.preparation.crop_height =
      config.vision.image_size;
  return ImageReward(std::move(parts));
}

}  // namespace atelier::metrics
