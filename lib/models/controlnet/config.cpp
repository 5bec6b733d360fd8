#include "models/controlnet/config.h"

#include <fmt/format.h>

#include "models/diffusers_config.h"

namespace atelier::models::controlnet {
namespace {

using base::Json;
using base::JsonFields;

constexpr std::int64_t max_channels = 1 << 14;

[[noreturn]] void bad(const std::string& message) { throw base::Error(base::ExitCode::data, message); }

void check(const JsonFields& fields, const Json& json) {
  if (fields.string_or("_class_name", "ControlNetModel") != "ControlNetModel")
    bad(fmt::format("{}: a {}, not a ControlNetModel", fields.what(), fields.string("_class_name")));
  check_keys(fields, json,
             {"in_channels",
              "flip_sin_to_cos",
              "freq_shift",
              "down_block_types",
              "mid_block_type",
              "block_out_channels",
              "layers_per_block",
              "downsample_padding",
              "mid_block_scale_factor",
              "act_fn",
              "norm_num_groups",
              "norm_eps",
              "cross_attention_dim",
              "transformer_layers_per_block",
              "attention_head_dim",
              "use_linear_projection",
              "addition_embed_type",
              "addition_time_embed_dim",
              "upcast_attention",
              "projection_class_embeddings_input_dim",
              "controlnet_conditioning_channel_order",
              "conditioning_embedding_out_channels",
              "global_pool_conditions",
              "addition_embed_type_num_heads"},
             {{"conditioning_channels", "3"},
              {"only_cross_attention", "false"},
              {"resnet_time_scale_shift", "\"default\""},
              {"num_attention_heads", "null"},
              {"encoder_hid_dim", "null"},
              {"encoder_hid_dim_type", "null"},
              {"class_embed_type", "null"},
              {"num_class_embeds", "null"}});
}

/// The same as a UNet's configuration, whose way up mirrors the way down.
Json as_unet(const JsonFields& fields, Json json) {
  for (const char* own : {"conditioning_channels", "mid_block_type", "controlnet_conditioning_channel_order",
                          "conditioning_embedding_out_channels", "global_pool_conditions"})
    json.erase(own);
  json["_class_name"] = "UNet2DConditionModel";
  const Json* down = fields.find("down_block_types");
  if (down == nullptr || !down->is_array()) return json;  // the UNet's parser says what is wrong
  Json up = Json::array();
  for (const Json& type : *down)
    up.insert(up.begin(), type == "CrossAttnDownBlock2D" ? "CrossAttnUpBlock2D" : "UpBlock2D");
  json["up_block_types"] = up;
  // Levels without attention may say 0.
  if (const Json* depths = fields.find("transformer_layers_per_block");
      depths != nullptr && depths->is_array() && depths->size() == down->size())
    for (std::size_t i = 0; i < down->size(); ++i)
      if ((*down)[i] == "DownBlock2D" && (*depths)[i] == 0) json["transformer_layers_per_block"][i] = 1;
  return json;
}

}  // namespace

Config parse_config(const Json& json, const std::string& what) {
  const JsonFields fields(json, what);
  check(fields, json);
  Config c;
  const std::string mid = fields.string_or("mid_block_type", "UNetMidBlock2DCrossAttn");
  c.mid_attention = mid == "UNetMidBlock2DCrossAttn";
  if (!c.mid_attention && mid != "UNetMidBlock2D")
    bad(fmt::format("{}: \"mid_block_type\" is {}, which is not supported", what, base::dump_json(Json(mid))));
  c.encoder = unet::parse_config(as_unet(fields, json), what);
  c.embedding_channels = integers(fields, "conditioning_embedding_out_channels", 0, 1, max_channels, {16, 32, 96, 256});
  const std::string order = fields.string_or("controlnet_conditioning_channel_order", "rgb");
  c.bgr = order == "bgr";
  if (!c.bgr && order != "rgb")
    bad(fmt::format("{}: \"controlnet_conditioning_channel_order\" is {}, only rgb and bgr are known", what,
                    base::dump_json(Json(order))));
  c.global_pool = fields.boolean_or("global_pool_conditions", false);
  return c;
}

std::string mismatch(const Config& config, const unet::Config& unet) {
  const unet::Config& own = config.encoder;
  const auto differ = [](const char* what, auto a, auto b) {
    return fmt::format("it has {} {}, the UNet {}", a, what, b);
  };
  if (own.context_size() != unet.context_size())
    return fmt::format("it takes text embeddings of size {}, the UNet of {}", own.context_size(), unet.context_size());
  if (own.has_addition() != unet.has_addition())
    return own.has_addition() ? "it wants SDXL's sizes, the UNet does not" : "the UNet wants SDXL's sizes, it does not";
  if (own.addition_input != unet.addition_input || own.addition_time_embed != unet.addition_time_embed)
    return differ("numbers of added embedding", own.addition_input, unet.addition_input);
  if (own.levels.size() != unet.levels.size()) return differ("levels", own.levels.size(), unet.levels.size());
  for (std::size_t i = 0; i < own.levels.size(); ++i) {
    const unet::Level &a = own.levels[i], &b = unet.levels[i];
    if (a.channels != b.channels) return differ(fmt::format("channels at level {}", i).c_str(), a.channels, b.channels);
    if (a.resnets != b.resnets) return differ(fmt::format("resnets at level {}", i).c_str(), a.resnets, b.resnets);
  }
  return "";
}

}  // namespace atelier::models::controlnet
