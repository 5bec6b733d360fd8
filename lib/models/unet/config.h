#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "nn/conv.h"

namespace atelier::models::unet {

/// One level of the UNet, from the finest to the coarsest.
struct Level {
  std::int64_t channels = 0;
  std::int64_t resnets = 2;              ///< on the way down; one more on the way up
  bool down_attention = false;           ///< CrossAttnDownBlock2D rather than DownBlock2D
  bool up_attention = false;             ///< the block on the way up at the same level
  std::int64_t heads = 8;                ///< what configurations call attention_head_dim
  std::int64_t depth = 1, up_depth = 1;  ///< transformer blocks in each attention
  std::int64_t context = 768;            ///< cross_attention_dim
};

/// UNet2DConditionModel's configuration, decided once.
struct Config {
  std::int64_t in_channels = 4, out_channels = 4;
  std::int64_t sample_size = 64;  ///< height and width of the latents that it was trained on; 0: not said
  std::vector<Level> levels;
  bool center_input = false;
  bool flip_sin_to_cos = true;
  double freq_shift = 0;
  std::int64_t norm_groups = 32;
  double norm_eps = 1e-5;
  nn::Activation activation = nn::Activation::silu;
  std::int64_t downsample_padding = 1;
  double mid_scale = 1;  ///< mid_block_scale_factor
  bool linear_projection = false;
  bool upcast_attention = false;
  std::int64_t conv_in_kernel = 3, conv_out_kernel = 3;
  std::int64_t time_embedding = 1280;    ///< size of the time embedding
  std::int64_t time_cond_proj = 0;       ///< size of the guidance embedding (LCM); 0: none
  std::int64_t addition_time_embed = 0;  ///< SDXL: size of each time id's embedding; 0: no added embedding
  std::int64_t addition_input = 0;       ///< SDXL: projection_class_embeddings_input_dim

  bool has_addition() const { return addition_input > 0; }
  /// SDXL: size of the pooled text embedding, for so many time ids (6; the refiner 5).
  std::int64_t pooled_size(std::int64_t time_ids) const { return addition_input - time_ids * addition_time_embed; }
  std::int64_t context_size() const { return levels.empty() ? 0 : levels.back().context; }
};

/// Reads config.json of diffusers' UNet2DConditionModel. Defaults are the class's. Every field is range-checked; a key that
/// changes results and is unknown, or has a value that is not supported, is Error(data) naming it. `what` names the file.
Config parse_config(const base::Json& json, const std::string& what);

}  // namespace atelier::models::unet
