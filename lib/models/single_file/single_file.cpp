#include "models/single_file/single_file.h"

#include <array>
#include <string_view>

#include <ATen/ops/std.h>
#include <fmt/format.h>

#include "models/clip/text_encoder.h"
#include "models/single_file/configs.h"
#include "models/single_file/renamed_source.h"
#include "models/unet/unet.h"
#include "models/vae/autoencoder.h"

namespace atelier::models::single_file {
namespace {

using base::Json;

const std::string unet_prefix = "model.diffusion_model.";
const std::string vae_prefix = "first_stage_model.";

[[noreturn]] void bad(const std::string& message) { throw base::Error(base::ExitCode::data, message); }

/// Whether a text encoder is OpenCLIP's.
struct TextPlace {
  std::string prefix;
  bool open_clip = false;
};

/// Where a family keeps a text encoder; an empty prefix where it has none.
TextPlace text_place(Family family, Component component) {
  const bool first = component == Component::text_encoder;
  switch (family) {
    case Family::sd1: return first ? TextPlace{"cond_stage_model.transformer.", false} : TextPlace{};
    case Family::sd2: return first ? TextPlace{"cond_stage_model.model.", true} : TextPlace{};
    case Family::sdxl:
      return first ? TextPlace{"conditioner.embedders.0.transformer.", false}
                   : TextPlace{"conditioner.embedders.1.model.", true};
    case Family::sdxl_refiner: return first ? TextPlace{} : TextPlace{"conditioner.embedders.0.model.", true};
  }
  return {};
}

std::string path_of(const io::WeightSource& file) {
  return file.files().empty() ? std::string("checkpoint") : file.files().front().path;
}

Family family_of(const io::WeightSource& file) {
  const Part unet{file, unet_prefix};
  const std::string other = path_of(file) + ": a checkpoint of ";
  if (unet.has("joint_blocks.0.context_block.adaLN_modulation.1.bias"))
    bad(other + "Stable Diffusion 3, which this tool does not run from a single file");
  if (unet.has("double_blocks.0.img_attn.norm.key_norm.scale") ||
      file.has("double_blocks.0.img_attn.norm.key_norm.scale"))
    bad(other + "FLUX, which this tool does not run from a single file");
  if (file.has("edm_vpred.sigma_max")) bad(other + "the EDM kind, whose noise schedule is not supported");
  if (!unet.has("input_blocks.0.0.weight") || !unet.has("middle_block.1.transformer_blocks.0.attn2.to_k.weight"))
    bad(path_of(file) +
        ": not a Stable Diffusion checkpoint in the original layout (it has no model.diffusion_model.input_blocks)");
  if (unet.has("label_emb.0.0.weight")) {
    // Files without text encoders are told by the size of what the UNet attends to.
    if (file.has("conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias")) return Family::sdxl;
    if (file.has("conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias")) return Family::sdxl_refiner;
    const auto context = unet.size("middle_block.1.transformer_blocks.0.attn2.to_k.weight", 1);
    if (context == 2048) return Family::sdxl;
    if (context == 1280) return Family::sdxl_refiner;
    bad(fmt::format("{}: a UNet like SDXL's that attends to vectors of {}, which is no known model", path_of(file),
                    context));
  }
  const std::string key = "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight";
  return unet.has(key) && unet.size(key, 1) == 1024 ? Family::sd2 : Family::sd1;
}

std::string prediction_type(io::WeightSource& file, Family family, bool inpainting) {
  if (file.has("v_pred")) return "v_prediction";
  if (family != Family::sd2 || inpainting) return "epsilon";
  // No marker tells 2.1 at 768 from the others; this bias has spread three times as wide in training for v.
  const std::string name = unet_prefix + "output_blocks.11.1.transformer_blocks.0.norm1.bias";
  if (!file.has(name)) return "epsilon";
  const double spread = file.load(name, at::kFloat, at::kCPU).std().item<double>();
  return spread > 0.09 ? "v_prediction" : "epsilon";
}

std::vector<std::string> names_of(const nn::Module& module) {
  std::vector<std::string> names;
  for (const auto& entry : module.named_parameters()) names.push_back(entry.key());
  return names;
}

}  // namespace

const char* family_name(Family family) {
  switch (family) {
    case Family::sd1: return "sd1";
    case Family::sd2: return "sd2";
    case Family::sdxl: return "sdxl";
    case Family::sdxl_refiner: return "sdxl-refiner";
  }
  return "";
}

const Json& Description::config(Component component) const {
  switch (component) {
    case Component::unet: return unet;
    case Component::vae: return vae;
    case Component::text_encoder: return text_encoder;
    case Component::text_encoder_2: return text_encoder_2;
  }
  return unet;
}

Description recognise(io::WeightSource& file) {
  Description d;
  d.family = family_of(file);
  d.unet = unet_config({file, unet_prefix}, d.family);
  d.inpainting = d.unet["in_channels"] == 9;
  if (file.has(vae_prefix + "decoder.conv_in.weight") && file.has(vae_prefix + "encoder.conv_in.weight"))
    d.vae = vae_config({file, vae_prefix}, d.family);
  for (const Component component : {Component::text_encoder, Component::text_encoder_2}) {
    const TextPlace place = text_place(d.family, component);
    Json& config = component == Component::text_encoder ? d.text_encoder : d.text_encoder_2;
    const Part part{file, place.prefix};
    if (place.prefix.empty()) continue;
    if (place.open_clip && part.has("token_embedding.weight")) {
      config = open_clip_config(part, d.family == Family::sd2, d.family != Family::sd2);
    } else if (!place.open_clip && part.has("text_model.embeddings.token_embedding.weight")) {
      config = clip_config(part);
    }
  }
  const std::string prediction = prediction_type(file, d.family, d.inpainting);
  // As in diffusers' folders: 2.1 at 768 is the only one that attends in f32.
  if (d.family == Family::sd2 && prediction == "v_prediction") {
    d.unet["upcast_attention"] = true;
    d.unet["sample_size"] = 96;
  }
  d.scheduler = scheduler_config(d.family, prediction, file.has("ztsnr"));
  return d;
}

std::shared_ptr<io::WeightSource> open_component(std::shared_ptr<io::WeightSource> file, const Description& d,
                                                 Component component) {
  const Json& json = d.config(component);
  const std::string path = path_of(*file);
  if (json.is_null())
    throw base::Error(
        base::ExitCode::data,
        fmt::format("{}: the file holds no {}", path, component == Component::vae ? "autoencoder" : "text encoder"),
        component == Component::vae ? "name one with --vae" : "");
  if (component == Component::unet) {
    const auto config = unet::parse_config(json, path);
    return renamed_source(std::move(file), unet_prefix, names_of(unet::UNet(config)),
                          [&](const std::string& name) { return unet_stored(config, name); });
  }
  if (component == Component::vae) {
    const auto config = vae::parse_config(json, path);
    return renamed_source(std::move(file), vae_prefix, names_of(vae::AutoencoderKl(config)),
                          [&](const std::string& name) { return vae_stored(config.channels.size(), name); });
  }
  const auto names = names_of(clip::TextEncoder(clip::parse_text_config(json, path)));
  const TextPlace place = text_place(d.family, component);
  return renamed_source(std::move(file), place.prefix, names, [&](const std::string& name) {
    return place.open_clip ? open_clip_stored(name) : Stored{name};
  });
}

void note_ignored(io::WeightSource& file, const Description& d) {
  constexpr std::array<std::string_view, 16> fronts{"model_ema.",
                                                    "alphas_cumprod",
                                                    "betas",
                                                    "sqrt_",
                                                    "log_one_minus_",
                                                    "posterior_",
                                                    "logvar",
                                                    "lvlb_weights",
                                                    "v_pred",
                                                    "ztsnr",
                                                    "edm_",
                                                    "denoiser.sigmas",
                                                    "global_step",
                                                    "cond_stage_model.logit_scale",
                                                    "cond_stage_model.model.transformer.resblocks.23.",
                                                    "first_stage_model.loss."};
  constexpr std::array<std::string_view, 4> ends{"embeddings.position_ids", ".logit_scale", ".attn_mask",
                                                 ".text_projection"};
  for (const auto& name : file.names()) {
    bool ignored = false;
    for (const auto front : fronts) ignored = ignored || name.starts_with(front);
    for (const auto end : ends)
      ignored = ignored || (name.ends_with(end) && (end != ".text_projection" || d.family == Family::sd2));
    if (ignored) file.note_used(name);
  }
}

VaeFile open_vae(std::shared_ptr<io::WeightSource> file) {
  const std::string path = path_of(*file);
  if (file->has("decoder.up_blocks.0.resnets.0.conv1.weight"))
    throw base::Error(base::ExitCode::data,
                      path + ": an autoencoder in diffusers' layout, whose config.json must lie beside it");
  for (const std::string& prefix : {std::string(), vae_prefix}) {
    if (!file->has(prefix + "decoder.conv_in.weight") || !file->has(prefix + "encoder.conv_in.weight")) continue;
    const Json json = vae_config({*file, prefix}, Family::sd1);
    const auto config = vae::parse_config(json, path);
    return {json, renamed_source(std::move(file), prefix, names_of(vae::AutoencoderKl(config)),
                                 [&](const std::string& name) { return vae_stored(config.channels.size(), name); })};
  }
  bad(path + ": holds no autoencoder");
}

}  // namespace atelier::models::single_file
