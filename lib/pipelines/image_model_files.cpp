#include <algorithm>
#include <filesystem>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "models/single_file/single_file.h"
#include "pipelines/image_model.h"
#include "pipelines/weight_files.h"
#include "schedulers/samplers.h"

namespace atelier::pipelines {
namespace {

namespace fs = std::filesystem;
namespace single_file = models::single_file;
using base::Error;
using base::ExitCode;
using base::Json;
using single_file::Component;

/// Reads a component's JSON file and notes it for the manifest.
Json read_config(ImageModelFiles& files, const std::string& path) {
  if (!exists(path)) throw Error(ExitCode::no_input, fmt::format("{}: no such file", path));
  Json json = base::read_json_file(path);
  if (!json.is_object()) throw Error(ExitCode::data, fmt::format("{}: expected a JSON object", path));
  files.config_files.push_back(path);
  return json;
}

/// What model_index.json says of a component: its class, or nothing where it is absent or [null, null].
std::optional<std::string> component_class(const Json& index, const char* name) {
  const auto entry = index.find(name);
  if (entry == index.end() || !entry->is_array() || entry->size() != 2 || !(*entry)[1].is_string()) return std::nullopt;
  return (*entry)[1].get<std::string>();
}

void expect_class(const Json& index, const char* name, std::initializer_list<std::string_view> known,
                  const std::string& what) {
  const auto found = component_class(index, name);
  if (!found) {
    const auto pipeline = index.find("_class_name");
    const bool told = pipeline != index.end() && pipeline->is_string();
    throw Error(ExitCode::data, fmt::format("{}: it names no {}", what, name),
                told ? fmt::format("it is a {}; Stable Diffusion 1, 2 and XL are read", base::in_quotes(pipeline->get<std::string>()))
                     : "");
  }
  if (std::find(known.begin(), known.end(), *found) == known.end())
    throw Error(ExitCode::data,
                fmt::format("{}: a {} of class {} is not supported", what, name, base::in_quotes(*found)));
}

void set_tokenizer(ImageModelFiles& files, TextEncoderFiles& encoder, const std::string& folder) {
  encoder.tokenizer_folder = folder;
  for (const char* file :
       {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"})
    if (exists(folder + "/" + file)) files.config_files.push_back(folder + "/" + file);
}

/// The tokenizer of --tokenizer for one text encoder: a tokenizer's folder, or a model's with `tokenizer` and `tokenizer_2`.
std::string given_tokenizer(const std::string& folder, const std::string& suffix) {
  if (!is_folder(folder)) throw Error(ExitCode::no_input, fmt::format("{}: no such folder", folder));
  for (const std::string& inner : {folder + "/tokenizer" + suffix, folder + "/tokenizer"})
    if (is_folder(inner)) return inner;
  return folder;
}

void read_text_encoder(ImageModelFiles& files, const Json& index, const std::string& suffix, const std::string& what,
                       const std::string& tokenizer) {
  const std::string name = "text_encoder" + suffix;
  expect_class(index, name.c_str(), {"CLIPTextModel", "CLIPTextModelWithProjection"}, what);
  const std::string folder = files.path + "/" + name;
  TextEncoderFiles encoder;
  const Json json = read_config(files, folder + "/config.json");
  encoder.config = models::clip::parse_text_config(json, folder + "/config.json");
  encoder.weights = open_weights_folder(folder, "model");
  set_tokenizer(files, encoder,
                tokenizer.empty() ? files.path + "/tokenizer" + suffix : given_tokenizer(tokenizer, suffix));
  files.text_encoders.push_back(std::move(encoder));
}

void check_text_encoders(const ImageModelFiles& files, const std::string& what) {
  const bool xl = files.unet_config.has_addition();
  if (files.text_encoders.empty() || (!xl && files.text_encoders.size() != 1))
    throw Error(ExitCode::data,
                fmt::format("{}: {} text encoders do not go with this UNet", what, files.text_encoders.size()));
  if (xl && files.text_encoders.back().config.projection_dim == 0)
    throw Error(ExitCode::data, fmt::format("{}: SDXL's last text encoder must have a projection", what));
}

/// The text encoders' sizes must be what the UNet attends to.
void check_sizes(const ImageModelFiles& files) {
  std::int64_t width = 0;
  for (const TextEncoderFiles& encoder : files.text_encoders) width += encoder.config.hidden_size;
  if (width != files.unet_config.context_size())
    throw Error(ExitCode::data, fmt::format("{}: the text encoders give {} numbers per token, the UNet wants {}",
                                            files.path, width, files.unet_config.context_size()));
  const auto in = files.unet_config.in_channels;
  if (in != 4 && in != 9)
    throw Error(ExitCode::data, fmt::format("{}: a UNet with {} input channels is not supported", files.path, in));
}

ImageFamily family_of(const ImageModelFiles& files) {
  if (files.unet_config.has_addition())
    return files.text_encoders.size() == 1 ? ImageFamily::sdxl_refiner : ImageFamily::sdxl;
  // SD 2 projects linearly; SD 1 with 1x1 convolutions.
  return files.unet_config.linear_projection ? ImageFamily::sd2 : ImageFamily::sd1;
}

at::ScalarType stored_dtype(const io::WeightSource& weights) {
  const std::string name = "conv_in.weight";
  return weights.has(name) ? io::scalar_type(weights.info(name).dtype) : at::kFloat;
}

at::ScalarType resolve_dtype(const std::string& name, at::ScalarType stored, at::Device device) {
  if (name == "fp32") return at::kFloat;
  if (name == "bf16") return at::kBFloat16;
  if (name == "fp16") return at::kHalf;
  if (stored == at::kBFloat16) return stored;
  return stored == at::kHalf && !device.is_cpu() ? stored : at::kFloat;
}

void read_vae_folder(ImageModelFiles& files, const std::string& folder) {
  files.vae_config_path = folder + "/config.json";
  files.vae_json = read_config(files, files.vae_config_path);
  files.vae = open_weights_folder(folder, "diffusion_pytorch_model");
}

/// --vae: a folder, a file in diffusers' layout beside its config.json, or a file in the original layout.
void read_given_vae(ImageModelFiles& files, const std::string& path) {
  if (!exists(path)) throw Error(ExitCode::no_input, fmt::format("{}: no such file or folder", path));
  if (is_folder(path)) return read_vae_folder(files, path);
  const auto source = open_weights_file(path);
  const std::string beside = (fs::path(path).parent_path() / "config.json").string();
  const bool original =
      source->has("decoder.conv_in.weight") && !source->has("decoder.up_blocks.0.resnets.0.conv1.weight");
  const bool prefixed = source->has("first_stage_model.decoder.conv_in.weight");
  if (!original && !prefixed && exists(beside)) {
    files.vae_config_path = beside;
    files.vae_json = read_config(files, beside);
    files.vae = source;
    return;
  }
  auto vae = single_file::open_vae(source);
  const bool xl = files.unet_config.has_addition();
  vae.config["scaling_factor"] = xl ? 0.13025 : 0.18215;  // the file does not say: the families'
  files.vae_config_path = path;
  files.vae_json = std::move(vae.config);
  files.vae = std::move(vae.weights);
}

void read_folder(ImageModelFiles& files, const std::string& vae, const std::string& tokenizer) {
  const std::string& path = files.path;
  const std::string index_path = path + "/model_index.json";
  if (!exists(index_path))
    throw Error(ExitCode::no_input, fmt::format("{}: no model_index.json", path),
                "--model wants a folder in diffusers layout, or a single file");
  const Json index = read_config(files, index_path);
  expect_class(index, "unet", {"UNet2DConditionModel"}, index_path);
  const std::string unet_path = path + "/unet/config.json";
  files.unet_config = models::unet::parse_config(read_config(files, unet_path), unet_path);
  files.unet = open_weights_folder(path + "/unet", "diffusion_pytorch_model");
  for (const char* suffix : {"", "_2"})
    if (component_class(index, (std::string("text_encoder") + suffix).c_str()))
      read_text_encoder(files, index, suffix, index_path, tokenizer);
  check_text_encoders(files, index_path);
  check_sizes(files);
  if (vae.empty())
    read_vae_folder(files, path + "/vae");
  else
    read_given_vae(files, vae);
  files.scheduler_path = path + "/scheduler/scheduler_config.json";
  if (!exists(files.scheduler_path))
    throw Error(ExitCode::no_input, fmt::format("{}: no such file", files.scheduler_path));
  files.scheduler_json = schedulers::read_scheduler_config(files.scheduler_path);
  files.config_files.push_back(files.scheduler_path);
  files.family = family_of(files);
  const bool xl = files.unet_config.has_addition();
  files.zero_empty_negative = xl && index.value("force_zeros_for_empty_prompt", Json(true)) == true;
  files.aesthetic_score = xl && index.value("requires_aesthetics_score", Json(false)) == true;
}

ImageFamily family_of(single_file::Family family) {
  switch (family) {
    case single_file::Family::sd1: return ImageFamily::sd1;
    case single_file::Family::sd2: return ImageFamily::sd2;
    case single_file::Family::sdxl: return ImageFamily::sdxl;
    case single_file::Family::sdxl_refiner: return ImageFamily::sdxl_refiner;
  }
  return ImageFamily::sd1;
}

/// A checkpoint of one file in the original layout. What diffusers' folders say beside the weights is built in.
void read_single_file(ImageModelFiles& files, const std::string& vae, const std::string& tokenizer) {
  files.single_file = open_weights_file(files.path);
  const auto description = single_file::recognise(*files.single_file);
  const std::string what = files.path;
  files.family = family_of(description.family);
  files.unet_config = models::unet::parse_config(description.unet, what);
  files.unet = single_file::open_component(files.single_file, description, Component::unet);
  for (const Component component : {Component::text_encoder, Component::text_encoder_2}) {
    const bool second = component == Component::text_encoder_2;
    const bool wanted = second == (files.family == ImageFamily::sdxl_refiner) || files.family == ImageFamily::sdxl;
    if (!wanted) continue;
    TextEncoderFiles encoder;
    encoder.weights = single_file::open_component(files.single_file, description, component);
    encoder.config = models::clip::parse_text_config(description.config(component), what);
    encoder.zero_pad = second || files.family == ImageFamily::sd2;
    if (!tokenizer.empty()) set_tokenizer(files, encoder, given_tokenizer(tokenizer, second ? "_2" : ""));
    files.text_encoders.push_back(std::move(encoder));
  }
  check_text_encoders(files, what);
  check_sizes(files);
  if (vae.empty()) {
    files.vae = single_file::open_component(files.single_file, description, Component::vae);
    files.vae_json = description.vae;
    files.vae_config_path = what;
  } else {
    read_given_vae(files, vae);
  }
  single_file::note_ignored(*files.single_file, description);
  files.scheduler_json = description.scheduler;
  files.scheduler_path = what;
  files.zero_empty_negative = files.family == ImageFamily::sdxl;
  files.aesthetic_score = files.family == ImageFamily::sdxl_refiner;
}

}  // namespace

std::string_view family_name(ImageFamily family) {
  switch (family) {
    case ImageFamily::sd1: return "sd1";
    case ImageFamily::sd2: return "sd2";
    case ImageFamily::sdxl: return "sdxl";
    case ImageFamily::sdxl_refiner: return "sdxl-refiner";
  }
  return "";
}

std::shared_ptr<const text::ClipTokenizer> TextEncoderFiles::open_tokenizer() const {
  return tokenizer_folder.empty() ? text::ClipTokenizer::builtin(zero_pad)
                                  : text::ClipTokenizer::open(tokenizer_folder);
}

ImageModelFiles ImageModelFiles::open(const std::string& path, const Placement& placement, const std::string& vae,
                                      const std::string& tokenizer) {
  if (!exists(path)) throw Error(ExitCode::no_input, fmt::format("{}: no such file or folder", path));
  ImageModelFiles files;
  files.path = path;
  if (is_folder(path))
    read_folder(files, vae, tokenizer);
  else
    read_single_file(files, vae, tokenizer);
  files.device = resolve_device(placement.device);
  files.dtype = resolve_dtype(placement.dtype, stored_dtype(*files.unet), files.device);
  return files;
}

std::shared_ptr<models::vae::Autoencoder> ImageModelFiles::build_vae() const {
  return models::vae::make_autoencoder(vae_json, vae_config_path);
}

std::shared_ptr<models::vae::Autoencoder> load_vae(const std::string& path, const ImageModel& model) {
  const at::NoGradGuard no_grad;
  ImageModelFiles files;
  files.unet_config = model.unet->config();
  read_given_vae(files, path);
  auto vae = files.build_vae();
  const bool upcast = model.dtype() == at::kHalf && vae->force_upcast();
  nn::load_parameters(*vae, *files.vae, models::vae::Names(*files.vae), upcast ? at::kFloat : model.dtype(),
                      model.device());
  return vae;
}

std::int64_t ImageModelFiles::downscale() const { return build_vae()->downscale(); }

std::int64_t ImageModelFiles::native_size() const {
  return (unet_config.sample_size > 0 ? unet_config.sample_size : 64) * downscale();
}

std::vector<io::WeightFile> ImageModelFiles::weight_files() const {
  std::vector<io::WeightFile> all;
  const auto append = [&all](const io::WeightSource& source) {
    for (const io::WeightFile& file : source.files()) {
      const bool known = std::any_of(all.begin(), all.end(), [&](const auto& f) { return f.path == file.path; });
      if (!known) all.push_back(file);  // the parts of a single file lie in one
    }
  };
  append(*unet);
  for (const TextEncoderFiles& encoder : text_encoders) append(*encoder.weights);
  append(*vae);
  return all;
}

}  // namespace atelier::pipelines
