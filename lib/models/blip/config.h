#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "nn/conv.h"

namespace atelier::models::blip {

/// The vision tower: sizes of ViT-L/16, which ImageReward has.
struct VisionConfig {
  std::int64_t hidden_size = 1024, intermediate_size = 4096, layers = 24, heads = 16;
  std::int64_t image_size = 224, patch_size = 16;  ///< pixels
  double norm_eps = 1e-6;
  nn::Activation activation = nn::Activation::gelu;

  std::int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
};

/// The text tower, which looks at the picture after every self-attention: sizes of BERT base.
struct TextConfig {
  std::int64_t vocab_size = 30524, hidden_size = 768, intermediate_size = 3072, layers = 12, heads = 12;
  std::int64_t picture_size = 1024;  ///< of the vision tower's tokens
  std::int64_t max_positions = 512;
  double norm_eps = 1e-12;
  nn::Activation activation = nn::Activation::gelu;
};

struct Config {
  VisionConfig vision;
  TextConfig text;
};

/// Reads a config.json of model_type "blip" with `vision_config` and `text_config`, as transformers writes it. Every field is
/// range-checked; Error(data) names the field. `what` names the file in errors.
Config parse_config(const base::Json& json, const std::string& what);

}  // namespace atelier::models::blip
