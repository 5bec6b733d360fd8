#include "models/controlnet/file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "models/controlnet/controlnet.h"
#include "models/single_file/configs.h"
#include "models/single_file/renamed_source.h"

namespace atelier::models::controlnet {
namespace {

using base::Json;
using single_file::Family;
using single_file::Part;

constexpr std::int64_t max_blocks = 64;
constexpr std::string_view conditioning = "controlnet_cond_embedding.";

[[noreturn]] void bad(const std::string& message) { throw base::Error(base::ExitCode::data, message); }

std::string path_of(const io::WeightSource& file) {
  return file.files().empty() ? std::string("checkpoint") : file.files().front().path;
}

/// Files that are something else, by a part of a tensor's name.
void refuse_relatives(const io::WeightSource& file) {
  struct Relative {
    std::string_view mark;
    const char* what;
  };
  constexpr std::array<Relative, 9> relatives{{{"lora_controlnet", "a Control-LoRA"},
                                               {"lllite_", "a ControlNet-LLLite"},
                                               {"task_embedding", "a union of ControlNets"},
                                               {"control_add_embedding", "a union of ControlNets"},
                                               {"controlnet_x_embedder", "a ControlNet for FLUX"},
                                               {"pos_embed_input", "a ControlNet for Stable Diffusion 3"},
                                               {"control_to_base", "a ControlNet-XS"},
                                               {"adapter.body.", "a T2I adapter"},
                                               {"body.0.resnets.0.block1", "a T2I adapter"}}};
  for (const auto& name : file.names()) {
    if (name == "difference")
      bad(path_of(file) + ": a ControlNet stored as its difference to a model is not supported");
    for (const auto& [mark, what] : relatives)
      if (name.find(mark) != std::string::npos)
        bad(fmt::format("{}: {} is not supported, only ControlNets of Stable Diffusion 1, 2 and XL are", path_of(file),
                        what));
  }
}

/// What shapes do not say is as in the published models.
void add_conventions(Json& config) {
  config["_class_name"] = "ControlNetModel";
  // Only SD 2.1's attention leaves fp16's range; in f32 it costs little.
  config["upcast_attention"] = config["use_linear_projection"] == true && !config.contains("addition_embed_type");
}

Json config_of_original(const Part& part) {
  const bool xl = part.has("label_emb.0.0.weight"),
             linear = part.file.info(part.prefix + "middle_block.1.proj_in.weight").shape.size() == 2;
  Json config = single_file::encoder_config(part, xl ? Family::sdxl : linear ? Family::sd2 : Family::sd1);
  // A convolution every other place, for the activations lie between them; the last one is of the UNet's size.
  Json channels = Json::array({part.size("input_hint_block.0.weight", 0)});
  for (std::int64_t i = 4; i < max_blocks && part.has(fmt::format("input_hint_block.{}.weight", i + 2)); i += 4)
    channels.push_back(part.size(fmt::format("input_hint_block.{}.weight", i), 0));
  config["conditioning_embedding_out_channels"] = std::move(channels);
  return config;
}

/// Of the attention at `place`.
std::int64_t depth_of(const Part& part, const std::string& place) {
  return part.count(place + ".transformer_blocks.", ".norm1.weight");
}

Json config_of_diffusers(const Part& part) {
  Json channels = Json::array(), down = Json::array(), depths = Json::array();
  std::string some_attention = part.has("mid_block.attentions.0.norm.weight") ? "mid_block.attentions.0" : "";
  const bool mid = !some_attention.empty();
  for (std::int64_t i = 0; i < max_blocks && part.has(fmt::format("down_blocks.{}.resnets.0.conv1.weight", i)); ++i) {
    const std::string place = fmt::format("down_blocks.{}.attentions.0", i);
    const bool has = part.has(place + ".norm.weight");
    if (has) some_attention = place;
    channels.push_back(part.size(fmt::format("down_blocks.{}.resnets.0.conv1.weight", i), 0));
    down.push_back(has ? "CrossAttnDownBlock2D" : "DownBlock2D");
    depths.push_back(has ? std::max<std::int64_t>(1, depth_of(part, place)) : 1);
  }
  if (channels.empty()) bad(path_of(part.file) + ": a ControlNet without down_blocks");
  if (mid) depths.back() = std::max<std::int64_t>(1, depth_of(part, "mid_block.attentions.0"));
  const bool linear = !some_attention.empty() && part.file.info(some_attention + ".proj_in.weight").shape.size() == 2;
  const bool xl = part.has("add_embedding.linear_1.weight");
  Json heads = Json::array();
  for (const Json& width : channels)
    heads.push_back(!linear && !xl ? std::int64_t{8} : std::max<std::int64_t>(1, width.get<std::int64_t>() / 64));
  Json embedding = Json::array({part.size(std::string(conditioning) + "conv_in.weight", 0)});
  const auto blocks = part.count(std::string(conditioning) + "blocks.", ".weight");
  for (std::int64_t i = 1; i < blocks; i += 2)
    embedding.push_back(part.size(fmt::format("{}blocks.{}.weight", conditioning, i), 0));
  Json config = {{"in_channels", part.size("conv_in.weight", 1)},
                 {"block_out_channels", channels},
                 {"down_block_types", down},
                 {"mid_block_type", mid ? "UNetMidBlock2DCrossAttn" : "UNetMidBlock2D"},
                 {"layers_per_block", part.count("down_blocks.0.resnets.", ".conv1.weight")},
                 {"attention_head_dim", heads},
                 {"transformer_layers_per_block", depths},
                 {"use_linear_projection", linear || xl},
                 {"conditioning_embedding_out_channels", embedding}};
  // Without any attention nothing says what it would attend to; of such models only SDXL's are published.
  config["cross_attention_dim"] =
      some_attention.empty() ? 2048 : part.size(some_attention + ".transformer_blocks.0.attn2.to_k.weight", 1);
  if (xl) {
    config["addition_embed_type"] = "text_time";
    config["addition_time_embed_dim"] = 256;
    config["projection_class_embeddings_input_dim"] = part.size("add_embedding.linear_1.weight", 1);
  }
  return config;
}

std::vector<std::string> names_of(const nn::Module& module) {
  std::vector<std::string> names;
  for (const auto& entry : module.named_parameters()) names.push_back(entry.key());
  return names;
}

/// The number behind `front`, and what follows its dot.
bool numbered(std::string_view name, std::string_view front, std::size_t& index, std::string_view& rest) {
  if (!name.starts_with(front)) return false;
  name.remove_prefix(front.size());
  const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (failed != std::errc() || end == name.data() + name.size() || *end != '.') return false;
  rest = name.substr(static_cast<std::size_t>(end - name.data()) + 1);
  return true;
}

}  // namespace

single_file::Stored original_stored(const Config& config, const std::string& name) {
  const std::string hint(conditioning);
  std::size_t i = 0;
  std::string_view rest;
  if (name.starts_with(hint + "conv_in.")) return {"input_hint_block.0." + name.substr(hint.size() + 8)};
  if (name.starts_with(hint + "conv_out."))
    return {
        fmt::format("input_hint_block.{}.{}", 4 * config.embedding_channels.size() - 2, name.substr(hint.size() + 9))};
  if (numbered(name, hint + "blocks.", i, rest)) return {fmt::format("input_hint_block.{}.{}", 2 * (i + 1), rest)};
  if (numbered(name, "controlnet_down_blocks.", i, rest)) return {fmt::format("zero_convs.{}.0.{}", i, rest)};
  if (name.starts_with("controlnet_mid_block.")) return {"middle_block_out.0." + name.substr(21)};
  return single_file::unet_stored(config.encoder, name);
}

File open_file(std::shared_ptr<io::WeightSource> file) {
  refuse_relatives(*file);
  if (file->has(std::string(conditioning) + "conv_in.weight")) {
    Json config = config_of_diffusers({*file, ""});
    add_conventions(config);
    return {std::move(config), std::move(file)};
  }
  for (const std::string prefix : {"control_model.", ""}) {
    if (!file->has(prefix + "input_hint_block.0.weight") || !file->has(prefix + "zero_convs.0.0.weight")) continue;
    Json json = config_of_original({*file, prefix});
    add_conventions(json);
    const Config config = parse_config(json, path_of(*file));
    return {std::move(json),
            single_file::renamed_source(std::move(file), prefix, names_of(ControlNet(config)),
                                        [&](const std::string& n) { return original_stored(config, n); })};
  }
  bad(path_of(*file) + ": not a ControlNet (it has neither controlnet_cond_embedding nor input_hint_block)");
}

}  // namespace atelier::models::controlnet
