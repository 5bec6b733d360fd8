#include "models/single_file/configs.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"

namespace atelier::models::single_file {
namespace {

using base::Json;

constexpr std::int64_t max_blocks = 64;

/// Whether the resnet block `k` on the way down has an attention beside it.
bool has_attention(const Part& part, std::int64_t k) {
  return part.has(fmt::format("input_blocks.{}.1.norm.weight", k));
}

/// Transformer blocks of the attention `place`.
std::int64_t depth_of(const Part& part, const std::string& place) {
  return part.count(place + ".transformer_blocks.", ".norm1.weight");
}

}  // namespace

std::int64_t Part::size(const std::string& name, std::size_t dimension) const {
  const auto& info = file.info(prefix + name);
  if (dimension >= info.shape.size())
    throw base::Error(base::ExitCode::data, fmt::format("tensor {} has {} dimensions, too few for what it stands for",
                                                        base::in_quotes(prefix + name), info.shape.size()));
  return info.shape[dimension];
}

std::int64_t Part::count(const std::string& before, const std::string& after) const {
  std::int64_t n = 0;
  while (n < 1024 && has(before + std::to_string(n) + after)) ++n;
  return n;
}

Json encoder_config(const Part& part, Family family) {
  // Two resnets and a downsampler make a level: blocks 1, 4, 7 and 10 begin one.
  Json channels = Json::array(), down = Json::array(), depths = Json::array(), heads = Json::array();
  const std::int64_t middle = std::max<std::int64_t>(1, depth_of(part, "middle_block.1"));
  for (std::int64_t k = 1; k < max_blocks && part.has(fmt::format("input_blocks.{}.0.in_layers.0.weight", k)); k += 3) {
    const bool attention = has_attention(part, k);
    const std::int64_t width = part.size(fmt::format("input_blocks.{}.0.out_layers.3.weight", k), 0);
    channels.push_back(width);
    down.push_back(attention ? "CrossAttnDownBlock2D" : "DownBlock2D");
    depths.push_back(attention ? std::max<std::int64_t>(1, depth_of(part, fmt::format("input_blocks.{}.1", k))) : 1);
    heads.push_back(family == Family::sd1 ? 8 : std::max<std::int64_t>(1, width / 64));
  }
  if (!channels.empty()) depths.back() = middle;
  const std::string middle_block = "middle_block.1.transformer_blocks.0.";
  Json config = {
      {"in_channels", part.size("input_blocks.0.0.weight", 1)},
      {"block_out_channels", channels},
      {"down_block_types", down},
      {"layers_per_block", 2},
      {"attention_head_dim", heads},
      {"transformer_layers_per_block", depths},
      {"cross_attention_dim", part.size(middle_block + "attn2.to_k.weight", 1)},
      {"use_linear_projection", part.file.info(part.prefix + "middle_block.1.proj_in.weight").shape.size() == 2}};
  if (part.has("label_emb.0.0.weight")) {
    config["addition_embed_type"] = "text_time";
    config["addition_time_embed_dim"] = 256;
    config["projection_class_embeddings_input_dim"] = part.size("label_emb.0.0.weight", 1);
  }
  return config;
}

Json unet_config(const Part& part, Family family) {
  Json config = encoder_config(part, family);
  Json up = Json::array();
  for (const Json& down : config["down_block_types"])
    up.insert(up.begin(), down == "CrossAttnDownBlock2D" ? "CrossAttnUpBlock2D" : "UpBlock2D");
  config["_class_name"] = "UNet2DConditionModel";
  config["sample_size"] = family == Family::sdxl || family == Family::sdxl_refiner ? 128 : 64;
  config["out_channels"] = part.size("out.2.weight", 0);
  config["up_block_types"] = std::move(up);
  return config;
}

Json vae_config(const Part& part, Family family) {
  const bool xl = family == Family::sdxl || family == Family::sdxl_refiner;
  Json channels = Json::array(), down = Json::array(), up = Json::array();
  for (std::int64_t i = 0; i < max_blocks && part.has(fmt::format("encoder.down.{}.block.0.conv1.weight", i)); ++i) {
    channels.push_back(part.size(fmt::format("encoder.down.{}.block.0.conv1.weight", i), 0));
    down.push_back("DownEncoderBlock2D");
    up.push_back("UpDecoderBlock2D");
  }
  return {{"_class_name", "AutoencoderKL"},
          {"in_channels", part.size("encoder.conv_in.weight", 1)},
          {"out_channels", part.size("decoder.conv_out.weight", 0)},
          {"latent_channels", part.size("decoder.conv_in.weight", 1)},
          {"block_out_channels", channels},
          {"down_block_types", down},
          {"up_block_types", up},
          {"layers_per_block", part.count("encoder.down.0.block.", ".conv1.weight")},
          {"sample_size", xl                      ? 1024
                          : family == Family::sd2 ? 768
                                                  : 512},
          {"scaling_factor", xl ? 0.13025 : 0.18215},
          {"force_upcast", true},
          {"use_quant_conv", part.has("quant_conv.weight")},
          {"use_post_quant_conv", part.has("post_quant_conv.weight")}};
}

Json clip_config(const Part& part) {
  const std::string text = "text_model.";
  const std::int64_t hidden = part.size(text + "embeddings.token_embedding.weight", 1);
  return {{"architectures", {"CLIPTextModel"}},
          {"model_type", "clip_text_model"},
          {"vocab_size", part.size(text + "embeddings.token_embedding.weight", 0)},
          {"max_position_embeddings", part.size(text + "embeddings.position_embedding.weight", 0)},
          {"hidden_size", hidden},
          {"intermediate_size", part.size(text + "encoder.layers.0.mlp.fc1.weight", 0)},
          {"num_hidden_layers", part.count(text + "encoder.layers.", ".layer_norm1.weight")},
          {"num_attention_heads", std::max<std::int64_t>(1, hidden / 64)},
          {"hidden_act", "quick_gelu"},
          {"eos_token_id", 2}};
}

Json open_clip_config(const Part& part, bool drop_last, bool projection) {
  const std::int64_t hidden = part.size("token_embedding.weight", 1);
  const std::int64_t layers = part.count("transformer.resblocks.", ".ln_1.weight");
  Json config = {{"architectures", {projection ? "CLIPTextModelWithProjection" : "CLIPTextModel"}},
                 {"model_type", "clip_text_model"},
                 {"vocab_size", part.size("token_embedding.weight", 0)},
                 {"max_position_embeddings", part.size("positional_embedding", 0)},
                 {"hidden_size", hidden},
                 {"intermediate_size", part.size("transformer.resblocks.0.mlp.c_fc.weight", 0)},
                 {"num_hidden_layers", drop_last ? std::min<std::int64_t>(layers, 23) : layers},
                 {"num_attention_heads", std::max<std::int64_t>(1, hidden / 64)},
                 {"hidden_act", "gelu"},
                 {"eos_token_id", 2}};
  if (projection) config["projection_dim"] = part.size("text_projection", 1);
  return config;
}

Json scheduler_config(Family family, const std::string& prediction_type, bool zero_snr) {
  Json config = {{"_class_name", "PNDMScheduler"},
                 {"beta_start", 0.00085},
                 {"beta_end", 0.012},
                 {"beta_schedule", "scaled_linear"},
                 {"num_train_timesteps", 1000},
                 {"prediction_type", prediction_type},
                 {"steps_offset", 1}};
  switch (family) {
    case Family::sd1:
      config["set_alpha_to_one"] = false;
      config["skip_prk_steps"] = true;
      config["timestep_spacing"] = "leading";
      break;
    case Family::sd2:
      config["_class_name"] = "DDIMScheduler";
      config["clip_sample"] = false;
      config["set_alpha_to_one"] = false;
      config["timestep_spacing"] = "leading";
      break;
    case Family::sdxl:
    case Family::sdxl_refiner:
      config["_class_name"] = "EulerDiscreteScheduler";
      config["timestep_spacing"] = "leading";
      config["interpolation_type"] = "linear";
      config["use_karras_sigmas"] = false;
      break;
  }
  if (zero_snr) {
    config["rescale_betas_zero_snr"] = true;
    config["timestep_spacing"] = "trailing";
  }
  return config;
}

}  // namespace atelier::models::single_file
