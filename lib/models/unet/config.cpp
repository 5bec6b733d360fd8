#include "models/unet/config.h"

#include <fmt/format.h>

#include "models/diffusers_config.h"

namespace atelier::models::unet {
namespace {

using base::Json;
using base::JsonFields;

constexpr std::int64_t max_channels = 1 << 14;
constexpr std::int64_t max_blocks = 2048;

[[noreturn]] void bad(const std::string& message) { throw base::Error(base::ExitCode::data, message); }

/// `attention_type`, gated variants and so on: what no Stable Diffusion uses.
void check(const JsonFields& fields, const Json& json) {
  if (fields.string_or("_class_name", "UNet2DConditionModel") != "UNet2DConditionModel")
    bad(fmt::format("{}: a {}, not a UNet2DConditionModel", fields.what(), fields.string("_class_name")));
  if (json.contains("norm_num_groups") && !fields.has("norm_num_groups"))
    bad(fields.what() + ": \"norm_num_groups\" is null, a UNet without norms is not supported");
  check_keys(fields, json,
             {"sample_size",
              "in_channels",
              "out_channels",
              "center_input_sample",
              "flip_sin_to_cos",
              "freq_shift",
              "down_block_types",
              "up_block_types",
              "block_out_channels",
              "layers_per_block",
              "downsample_padding",
              "mid_block_scale_factor",
              "dropout",
              "act_fn",
              "norm_num_groups",
              "norm_eps",
              "cross_attention_dim",
              "transformer_layers_per_block",
              "reverse_transformer_layers_per_block",
              "attention_head_dim",
              "use_linear_projection",
              "addition_embed_type",
              "addition_time_embed_dim",
              "upcast_attention",
              "time_embedding_dim",
              "time_cond_proj_dim",
              "conv_in_kernel",
              "conv_out_kernel",
              "projection_class_embeddings_input_dim",
              "addition_embed_type_num_heads"},
             {{"mid_block_type", "\"UNetMidBlock2DCrossAttn\""},
              {"only_cross_attention", "false"},
              {"mid_block_only_cross_attention", "false"},
              {"dual_cross_attention", "false"},
              {"resnet_time_scale_shift", "\"default\""},
              {"resnet_skip_time_act", "false"},
              {"resnet_out_scale_factor", "1.0"},
              {"time_embedding_type", "\"positional\""},
              {"attention_type", "\"default\""},
              {"class_embeddings_concat", "false"},
              {"num_attention_heads", "null"},
              {"encoder_hid_dim", "null"},
              {"encoder_hid_dim_type", "null"},
              {"class_embed_type", "null"},
              {"num_class_embeds", "null"},
              {"time_embedding_act_fn", "null"},
              {"timestep_post_act", "null"},
              {"cross_attention_norm", "null"}});
}

void parse_levels(const JsonFields& fields, Config& c) {
  const auto channels = integers(fields, "block_out_channels", 0, 1, max_channels, {320, 640, 1280, 1280});
  const std::size_t n = channels.size();
  const auto down = names(fields, "down_block_types", n, {"DownBlock2D", "CrossAttnDownBlock2D"},
                          {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"});
  const auto up = names(fields, "up_block_types", n, {"UpBlock2D", "CrossAttnUpBlock2D"},
                        {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"});
  const auto per_level = [&](std::string_view key, std::int64_t high, std::int64_t fallback) {
    return integers(fields, key, n, 1, high, std::vector<std::int64_t>(n, fallback));
  };
  const auto resnets = per_level("layers_per_block", 16, 2);
  const auto heads = per_level("attention_head_dim", 1024, 8);
  const auto depth = per_level("transformer_layers_per_block", 64, 1);
  const auto context = per_level("cross_attention_dim", 1 << 16, 1280);
  const std::vector<std::int64_t> mirrored(depth.rbegin(), depth.rend());
  const auto up_depth = integers(fields, "reverse_transformer_layers_per_block", n, 1, 64, mirrored);
  std::int64_t blocks = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t from_coarsest = n - 1 - i;
    c.levels.push_back({.channels = channels[i],
                        .resnets = resnets[i],
                        .down_attention = down[i] == "CrossAttnDownBlock2D",
                        .up_attention = up[from_coarsest] == "CrossAttnUpBlock2D",
                        .heads = heads[i],
                        .depth = depth[i],
                        .up_depth = up_depth[from_coarsest],
                        .context = context[i]});
    blocks += resnets[i] * depth[i] + (resnets[i] + 1) * c.levels[i].up_depth;
    const bool attention = c.levels[i].down_attention || c.levels[i].up_attention || i + 1 == n;
    if (attention && channels[i] % heads[i] != 0)
      bad(fmt::format("{}: level {} has {} channels, no multiple of its {} heads (\"attention_head_dim\")",
                      fields.what(), i, channels[i], heads[i]));
    if (channels[i] % c.norm_groups != 0)
      bad(fmt::format("{}: level {} has {} channels, no multiple of \"norm_num_groups\" {}", fields.what(), i,
                      channels[i], c.norm_groups));
  }
  // SDXL has 70. The module tree of a made-up configuration must not fill the memory before its weights are looked for.
  if (blocks > max_blocks)
    bad(fmt::format("{}: asks for {} transformer blocks, more than {}", fields.what(), blocks, max_blocks));
}

void parse_addition(const JsonFields& fields, Config& c) {
  if (!fields.has("addition_embed_type")) return;
  const std::string type = fields.string("addition_embed_type");
  if (type != "text_time")
    bad(fmt::format("{}: \"addition_embed_type\" is \"{}\", only text_time is supported", fields.what(), type));
  c.addition_time_embed = fields.integer("addition_time_embed_dim", 2, 1 << 14);
  c.addition_input = fields.integer("projection_class_embeddings_input_dim", 1, 1 << 18);
}

}  // namespace

Config parse_config(const Json& json, const std::string& what) {
  const JsonFields fields(json, what);
  check(fields, json);
  Config c;
  c.in_channels = fields.integer_or("in_channels", 1, 256, 4);
  c.out_channels = fields.integer_or("out_channels", 1, 256, 4);
  c.sample_size = sample_size(fields, 0);
  c.center_input = fields.boolean_or("center_input_sample", false);
  c.flip_sin_to_cos = fields.boolean_or("flip_sin_to_cos", true);
  c.freq_shift = fields.number_or("freq_shift", -1e3, 1e3, 0);
  c.norm_groups = fields.integer_or("norm_num_groups", 1, max_channels, 32);
  c.norm_eps = fields.number_or("norm_eps", 0, 1, 1e-5);
  c.activation = nn::parse_activation(fields.string_or("act_fn", "silu"), what);
  c.downsample_padding = fields.integer_or("downsample_padding", 0, 1, 1);
  c.mid_scale = fields.number_or("mid_block_scale_factor", 1e-6, 1e6, 1);
  c.linear_projection = fields.boolean_or("use_linear_projection", false);
  c.upcast_attention = fields.boolean_or("upcast_attention", false);
  c.conv_in_kernel = fields.integer_or("conv_in_kernel", 1, 31, 3);
  c.conv_out_kernel = fields.integer_or("conv_out_kernel", 1, 31, 3);
  if (c.conv_in_kernel % 2 == 0 || c.conv_out_kernel % 2 == 0)
    bad(what + ": \"conv_in_kernel\" and \"conv_out_kernel\" must be odd");
  parse_levels(fields, c);
  c.time_embedding = fields.integer_or("time_embedding_dim", 1, 1 << 18, 4 * c.levels.front().channels);
  c.time_cond_proj = fields.integer_or("time_cond_proj_dim", 1, 1 << 16, 0);
  parse_addition(fields, c);
  return c;
}

}  // namespace atelier::models::unet
