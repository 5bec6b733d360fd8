#include "models/single_file/layout.h"

#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace atelier::models::single_file {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;  // diffusers, original

/// Takes `prefix` off the front of `text`.
bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// Takes "N." off the front.
bool take_index(std::string_view& text, std::size_t& index) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error != std::errc() || end == text.data() + text.size() || *end != '.') return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  return true;
}

/// Replaces the front of `name` by the first pair that fits; as it is where none does.
template <std::size_t N>
std::string renamed(std::string_view name, const std::array<Pair, N>& pairs) {
  for (const auto& [now, original] : pairs)
    if (name.starts_with(now)) return std::string(original) + std::string(name.substr(now.size()));
  return std::string(name);
}

constexpr std::array<Pair, 6> unet_resnet{{{"norm1.", "in_layers.0."},
                                           {"conv1.", "in_layers.2."},
                                           {"time_emb_proj.", "emb_layers.1."},
                                           {"norm2.", "out_layers.0."},
                                           {"conv2.", "out_layers.3."},
                                           {"conv_shortcut.", "skip_connection."}}};

constexpr std::array<Pair, 7> unet_ends{{{"conv_in.", "input_blocks.0.0."},
                                         {"conv_norm_out.", "out.0."},
                                         {"conv_out.", "out.2."},
                                         {"time_embedding.linear_1.", "time_embed.0."},
                                         {"time_embedding.linear_2.", "time_embed.2."},
                                         {"add_embedding.linear_1.", "label_emb.0.0."},
                                         {"add_embedding.linear_2.", "label_emb.0.2."}}};

/// Blocks before level `level` on the way down, conv_in among them: each resnet is one, each downsampler another.
std::size_t input_block(const unet::Config& c, std::size_t level) {
  std::size_t block = 1;
  for (std::size_t i = 0; i < level; ++i) block += static_cast<std::size_t>(c.levels[i].resnets) + 1;
  return block;
}

/// Blocks before the up block `index`, counted from the coarsest level; its upsampler lies in its last resnet's block.
std::size_t output_block(const unet::Config& c, std::size_t index) {
  std::size_t block = 0;
  for (std::size_t i = 0; i < index; ++i)
    block += static_cast<std::size_t>(c.levels[c.levels.size() - 1 - i].resnets) + 1;
  return block;
}

std::string down_name(const unet::Config& c, std::size_t level, std::string_view rest) {
  std::size_t j = 0;
  const std::size_t first = input_block(c, level);
  if (take(rest, "resnets.") && take_index(rest, j))
    return fmt::format("input_blocks.{}.0.{}", first + j, renamed(rest, unet_resnet));
  if (take(rest, "attentions.") && take_index(rest, j)) return fmt::format("input_blocks.{}.1.{}", first + j, rest);
  if (take(rest, "downsamplers.0.conv."))
    return fmt::format("input_blocks.{}.0.op.{}", first + static_cast<std::size_t>(c.levels[level].resnets), rest);
  return "";
}

std::string up_name(const unet::Config& c, std::size_t index, std::string_view rest) {
  std::size_t j = 0;
  const std::size_t first = output_block(c, index);
  const unet::Level& level = c.levels[c.levels.size() - 1 - index];
  if (take(rest, "resnets.") && take_index(rest, j))
    return fmt::format("output_blocks.{}.0.{}", first + j, renamed(rest, unet_resnet));
  if (take(rest, "attentions.") && take_index(rest, j)) return fmt::format("output_blocks.{}.1.{}", first + j, rest);
  if (take(rest, "upsamplers.0.conv."))
    return fmt::format("output_blocks.{}.{}.conv.{}", first + static_cast<std::size_t>(level.resnets),
                       level.up_attention ? 2 : 1, rest);
  return "";
}

std::string mid_name(std::string_view rest) {
  if (take(rest, "attentions.0.")) return fmt::format("middle_block.1.{}", rest);
  if (take(rest, "resnets.0.")) return fmt::format("middle_block.0.{}", renamed(rest, unet_resnet));
  if (take(rest, "resnets.1.")) return fmt::format("middle_block.2.{}", renamed(rest, unet_resnet));
  return "";
}

constexpr std::array<Pair, 1> vae_resnet{{{"conv_shortcut.", "nin_shortcut."}}};

/// The middle of encoder or decoder.
Stored vae_mid(const std::string& side, std::string_view rest) {
  static constexpr std::array<Pair, 4> maps{
      {{"to_q.", "q."}, {"to_k.", "k."}, {"to_v.", "v."}, {"to_out.0.", "proj_out."}}};
  if (take(rest, "resnets.0.")) return {side + "mid.block_1." + renamed(rest, vae_resnet)};
  if (take(rest, "resnets.1.")) return {side + "mid.block_2." + renamed(rest, vae_resnet)};
  if (!take(rest, "attentions.0.")) return {};
  if (take(rest, "group_norm.")) return {side + "mid.attn_1.norm." + std::string(rest)};
  const bool weight = rest.ends_with("weight");
  return {side + "mid.attn_1." + renamed(rest, maps), weight ? Change::flatten : Change::none};
}

}  // namespace

Stored unet_stored(const unet::Config& config, const std::string& name) {
  std::string_view rest = name;
  std::size_t i = 0;
  if (take(rest, "down_blocks.") && take_index(rest, i) && i < config.levels.size())
    return {down_name(config, i, rest)};
  if (take(rest, "up_blocks.") && take_index(rest, i) && i < config.levels.size()) return {up_name(config, i, rest)};
  if (take(rest, "mid_block.")) return {mid_name(rest)};
  const std::string end = renamed(rest, unet_ends);
  return {end == rest ? std::string() : end};
}

Stored vae_stored(std::size_t levels, const std::string& name) {
  std::string_view rest = name;
  for (const std::string side : {"encoder.", "decoder."}) {
    if (!take(rest, side)) continue;
    std::size_t i = 0, j = 0;
    if (take(rest, "conv_norm_out.")) return {side + "norm_out." + std::string(rest)};
    if (take(rest, "mid_block.")) return vae_mid(side, rest);
    const bool down = take(rest, "down_blocks.");
    if (!down && !take(rest, "up_blocks.")) return {side + std::string(rest)};  // conv_in, conv_out
    if (!take_index(rest, i) || i >= levels) return {};
    // The decoder's levels are counted from the picture's side.
    const std::string level = fmt::format("{}{}.{}.", side, down ? "down" : "up", down ? i : levels - 1 - i);
    if (take(rest, "resnets.") && take_index(rest, j))
      return {fmt::format("{}block.{}.{}", level, j, renamed(rest, vae_resnet))};
    if (take(rest, "downsamplers.0.")) return {level + "downsample." + std::string(rest)};
    if (take(rest, "upsamplers.0.")) return {level + "upsample." + std::string(rest)};
    return {};
  }
  return {name};  // quant_conv, post_quant_conv
}

Stored open_clip_stored(const std::string& name) {
  static constexpr std::array<Pair, 3> ends{{{"embeddings.token_embedding.weight", "token_embedding.weight"},
                                             {"embeddings.position_embedding.weight", "positional_embedding"},
                                             {"final_layer_norm.", "ln_final."}}};
  static constexpr std::array<Pair, 5> layer{{{"layer_norm1.", "ln_1."},
                                              {"layer_norm2.", "ln_2."},
                                              {"mlp.fc1.", "mlp.c_fc."},
                                              {"mlp.fc2.", "mlp.c_proj."},
                                              {"self_attn.out_proj.", "attn.out_proj."}}};
  std::string_view rest = name;
  if (name == "text_projection.weight") return {"text_projection", Change::transpose};
  if (!take(rest, "text_model.")) return {};
  std::size_t i = 0;
  if (!take(rest, "encoder.layers.") || !take_index(rest, i)) return {renamed(rest, ends)};
  const std::string block = fmt::format("transformer.resblocks.{}.", i);
  constexpr std::array<std::string_view, 3> fused{"self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."};
  for (std::size_t part = 0; part < fused.size(); ++part)
    if (take(rest, fused[part]))
      return {block + "attn.in_proj_" + std::string(rest), Change::third_of_rows, static_cast<std::int64_t>(part)};
  return {block + renamed(rest, layer)};
}

}  // namespace atelier::models::single_file
