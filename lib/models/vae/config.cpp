#include <algorithm>

#include <fmt/format.h>

#include "models/diffusers_config.h"
#include "models/vae/autoencoder.h"

namespace atelier::models::vae {
namespace {

using base::Json;
using base::JsonFields;

constexpr std::int64_t max_channels = 1 << 14;

[[noreturn]] void bad(const std::string& message) { throw base::Error(base::ExitCode::data, message); }

void check_class(const JsonFields& fields, const std::string& name) {
  if (fields.string_or("_class_name", name) != name)
    bad(fmt::format("{}: a {}, not an {}", fields.what(), fields.string("_class_name"), name));
}

std::string class_name(const Json& config, const std::string& what) {
  return JsonFields(config, what).string_or("_class_name", "AutoencoderKL");
}

}  // namespace

Config parse_config(const Json& json, const std::string& what) {
  const JsonFields fields(json, what);
  check_class(fields, "AutoencoderKL");
  check_keys(
      fields, json,
      {"in_channels", "out_channels", "latent_channels", "block_out_channels", "down_block_types", "up_block_types",
       "layers_per_block", "act_fn", "norm_num_groups", "sample_size", "scaling_factor", "shift_factor", "latents_mean",
       "latents_std", "force_upcast", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"},
      {});
  Config c;
  c.in_channels = fields.integer_or("in_channels", 1, 256, 3);
  c.out_channels = fields.integer_or("out_channels", 1, 256, 3);
  c.latent_channels = fields.integer_or("latent_channels", 1, 256, 4);
  c.channels = integers(fields, "block_out_channels", 0, 1, max_channels, {64});
  const std::size_t n = c.channels.size();
  names(fields, "down_block_types", n, {"DownEncoderBlock2D"}, {"DownEncoderBlock2D"});
  names(fields, "up_block_types", n, {"UpDecoderBlock2D"}, {"UpDecoderBlock2D"});
  c.layers_per_block = fields.integer_or("layers_per_block", 1, 16, 1);
  c.activation = nn::parse_activation(fields.string_or("act_fn", "silu"), what);
  c.norm_groups = fields.integer_or("norm_num_groups", 1, max_channels, 32);
  c.sample_size = sample_size(fields, 32);
  c.scaling_factor = fields.number_or("scaling_factor", 1e-6, 1e6, 0.18215);
  c.shift_factor = fields.number_or("shift_factor", -1e6, 1e6, 0);
  c.latents_mean = numbers(fields, "latents_mean", static_cast<std::size_t>(c.latent_channels));
  c.latents_std = numbers(fields, "latents_std", static_cast<std::size_t>(c.latent_channels));
  c.force_upcast = fields.boolean_or("force_upcast", true);
  c.quant_conv = fields.boolean_or("use_quant_conv", true);
  c.post_quant_conv = fields.boolean_or("use_post_quant_conv", true);
  c.mid_attention = fields.boolean_or("mid_block_add_attention", true);
  for (const std::int64_t channels : c.channels)
    if (channels % c.norm_groups != 0)
      bad(fmt::format("{}: {} channels are no multiple of \"norm_num_groups\" {}", what, channels, c.norm_groups));
  if (c.latents_mean.size() != c.latents_std.size())
    bad(what + ": \"latents_mean\" and \"latents_std\" belong together");
  return c;
}

TinyConfig parse_tiny_config(const Json& json, const std::string& what) {
  const JsonFields fields(json, what);
  check_class(fields, "AutoencoderTiny");
  // block_out_channels, latent_magnitude and latent_shift are written into every configuration and used by nothing here.
  check_keys(
      fields, json,
      {"in_channels", "out_channels", "latent_channels", "encoder_block_out_channels", "decoder_block_out_channels",
       "num_encoder_blocks", "num_decoder_blocks", "act_fn", "upsampling_scaling_factor", "scaling_factor",
       "shift_factor", "block_out_channels", "latent_magnitude", "latent_shift"},
      {{"upsample_fn", "\"nearest\""}, {"force_upcast", "false"}});
  TinyConfig c;
  c.in_channels = fields.integer_or("in_channels", 1, 256, 3);
  c.out_channels = fields.integer_or("out_channels", 1, 256, 3);
  c.latent_channels = fields.integer_or("latent_channels", 1, 256, 4);
  c.encoder_channels = integers(fields, "encoder_block_out_channels", 0, 1, max_channels, c.encoder_channels);
  c.decoder_channels = integers(fields, "decoder_block_out_channels", 0, 1, max_channels, c.decoder_channels);
  c.encoder_blocks = integers(fields, "num_encoder_blocks", c.encoder_channels.size(), 0, 64, c.encoder_blocks);
  c.decoder_blocks = integers(fields, "num_decoder_blocks", c.decoder_channels.size(), 0, 64, c.decoder_blocks);
  c.activation = nn::parse_activation(fields.string_or("act_fn", "relu"), what);
  c.upsampling_factor = fields.integer_or("upsampling_scaling_factor", 1, 16, 2);
  c.scaling_factor = fields.number_or("scaling_factor", 1e-6, 1e6, 1);
  c.shift_factor = fields.number_or("shift_factor", -1e6, 1e6, 0);
  const auto uniform = [](const std::vector<std::int64_t>& v) { return std::equal(v.begin() + 1, v.end(), v.begin()); };
  if (c.encoder_blocks.size() != c.encoder_channels.size() || c.decoder_blocks.size() != c.decoder_channels.size())
    bad(what + ": each level needs its number of blocks");
  // The reference's convolutions between levels keep their channels, so that other lists fit no weights.
  if (!uniform(c.encoder_channels) || !uniform(c.decoder_channels))
    bad(what + ": levels of different widths are not supported");
  return c;
}

std::shared_ptr<Autoencoder> make_autoencoder(const Json& config, const std::string& what) {
  const std::string name = class_name(config, what);
  if (name == "AutoencoderKL") return std::make_shared<AutoencoderKl>(parse_config(config, what));
  if (name == "AutoencoderTiny") return std::make_shared<AutoencoderTiny>(parse_tiny_config(config, what));
  bad(fmt::format("{}: autoencoder \"{}\" is not supported; known are AutoencoderKL and AutoencoderTiny", what, name));
}

}  // namespace atelier::models::vae
