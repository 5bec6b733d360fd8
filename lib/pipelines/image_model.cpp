#include "pipelines/image_model.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"
#include "schedulers/samplers.h"

namespace atelier::pipelines {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using base::Json;

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// Reads a component's JSON file and notes it for the manifest.
Json read_config(ImageModelFiles& files, const std::string& path) {
  if (!exists(path)) throw Error(ExitCode::no_input, fmt::format("{}: no such file", path));
  Json json = base::read_json_file(path);
  if (!json.is_object()) throw Error(ExitCode::data, fmt::format("{}: expected a JSON object", path));
  files.config_files.push_back(path);
  return json;
}

/// Weights of one component: plain ones first, else the variant that is there ("model.fp16.safetensors").
std::shared_ptr<io::WeightSource> open_weights(const std::string& folder, const std::string& stem) {
  for (const std::string& variant : {stem, stem + ".fp16", stem + ".bf16", stem + ".fp32"})
    if (exists(folder + "/" + variant + ".safetensors") || exists(folder + "/" + variant + ".safetensors.index.json"))
      return io::WeightSource::open(folder, variant);
  return io::WeightSource::open(folder, stem);
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
  if (!found) throw Error(ExitCode::data, fmt::format("{}: it names no {}", what, name));
  if (std::find(known.begin(), known.end(), *found) == known.end())
    throw Error(ExitCode::data,
                fmt::format("{}: a {} of class {} is not supported", what, name, base::in_quotes(*found)));
}

void read_text_encoder(ImageModelFiles& files, const Json& index, const std::string& suffix, const std::string& what) {
  const std::string name = "text_encoder" + suffix;
  expect_class(index, name.c_str(), {"CLIPTextModel", "CLIPTextModelWithProjection"}, what);
  const std::string folder = files.path + "/" + name;
  TextEncoderFiles encoder;
  const Json json = read_config(files, folder + "/config.json");
  encoder.config = models::clip::parse_text_config(json, folder + "/config.json");
  encoder.weights = open_weights(folder, "model");
  encoder.tokenizer_folder = files.path + "/tokenizer" + suffix;
  for (const char* file :
       {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"})
    if (exists(encoder.tokenizer_folder + "/" + file))
      files.config_files.push_back(encoder.tokenizer_folder + "/" + file);
  files.text_encoders.push_back(std::move(encoder));
}

void read_text_encoders(ImageModelFiles& files, const Json& index, const std::string& what) {
  const bool xl = files.unet_config.has_addition();
  if (component_class(index, "text_encoder")) read_text_encoder(files, index, "", what);
  if (component_class(index, "text_encoder_2")) read_text_encoder(files, index, "_2", what);
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

void read_vae(ImageModelFiles& files, const std::string& folder) {
  files.vae_config_path = folder + "/config.json";
  files.vae_json = read_config(files, files.vae_config_path);
  files.vae = open_weights(folder, "diffusion_pytorch_model");
}

/// The autoencoder's network alone, without weights.
std::shared_ptr<models::vae::Autoencoder> build_vae(const ImageModelFiles& files) {
  return models::vae::make_autoencoder(files.vae_json, files.vae_config_path);
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

ImageModelFiles ImageModelFiles::open(const std::string& path, const Placement& placement, const std::string& vae) {
  if (!exists(path)) throw Error(ExitCode::no_input, fmt::format("{}: no such file or folder", path));
  std::error_code ignored;
  const std::string index_path = path + "/model_index.json";
  if (!fs::is_directory(path, ignored))
    throw Error(ExitCode::unavailable, fmt::format("{}: single-file checkpoints cannot be read yet", path),
                "give a folder in diffusers layout");
  if (!exists(index_path))
    throw Error(ExitCode::no_input, fmt::format("{}: no model_index.json", path),
                "--model wants a folder in diffusers layout");
  ImageModelFiles files;
  files.path = path;
  const Json index = read_config(files, index_path);
  expect_class(index, "unet", {"UNet2DConditionModel"}, index_path);
  const std::string unet_path = path + "/unet/config.json";
  files.unet_config = models::unet::parse_config(read_config(files, unet_path), unet_path);
  files.unet = open_weights(path + "/unet", "diffusion_pytorch_model");
  read_text_encoders(files, index, index_path);
  check_sizes(files);
  read_vae(files, vae.empty() ? path + "/vae" : vae);
  files.scheduler_path = path + "/scheduler/scheduler_config.json";
  if (!exists(files.scheduler_path))
    throw Error(ExitCode::no_input, fmt::format("{}: no such file", files.scheduler_path));
  files.scheduler_json = schedulers::read_scheduler_config(files.scheduler_path);
  files.config_files.push_back(files.scheduler_path);
  files.family = family_of(files);
  const bool xl = files.unet_config.has_addition();
  files.zero_empty_negative = xl && index.value("force_zeros_for_empty_prompt", Json(true)) == true;
  files.aesthetic_score = xl && index.value("requires_aesthetics_score", Json(false)) == true;
  files.device = resolve_device(placement.device);
  files.dtype = resolve_dtype(placement.dtype, stored_dtype(*files.unet), files.device);
  return files;
}

std::int64_t ImageModelFiles::downscale() const { return build_vae(*this)->downscale(); }

std::int64_t ImageModelFiles::native_size() const {
  return (unet_config.sample_size > 0 ? unet_config.sample_size : 64) * downscale();
}

std::vector<io::WeightFile> ImageModelFiles::weight_files() const {
  std::vector<io::WeightFile> all;
  const auto append = [&all](const io::WeightSource& source) {
    all.insert(all.end(), source.files().begin(), source.files().end());
  };
  append(*unet);
  for (const TextEncoderFiles& encoder : text_encoders) append(*encoder.weights);
  append(*vae);
  return all;
}

std::shared_ptr<const ImageModel> ImageModel::load(const ImageModelFiles& files) {
  const auto start = std::chrono::steady_clock::now();
  const at::NoGradGuard no_grad;
  auto model = std::make_shared<ImageModel>();
  model->family = files.family;
  model->scheduler_json = files.scheduler_json;
  model->scheduler_path = files.scheduler_path;
  model->zero_empty_negative = files.zero_empty_negative;
  model->aesthetic_score = files.aesthetic_score;
  for (const TextEncoderFiles& encoder : files.text_encoders) {
    ImageTextEncoder loaded;
    loaded.tokenizer = text::ClipTokenizer::open(encoder.tokenizer_folder);
    if (loaded.tokenizer->max_length() > encoder.config.max_positions)
      throw Error(ExitCode::data,
                  fmt::format("{}: model_max_length is {}, the text encoder has {} positions", encoder.tokenizer_folder,
                              loaded.tokenizer->max_length(), encoder.config.max_positions));
    loaded.network = std::make_shared<models::clip::TextEncoder>(encoder.config);
    models::clip::note_ignored(*encoder.weights);
    nn::load_parameters(*loaded.network, *encoder.weights, nn::NameMap(), files.dtype, files.device);
    model->text_encoders.push_back(std::move(loaded));
  }
  model->unet = std::make_shared<models::unet::UNet>(files.unet_config);
  nn::load_parameters(*model->unet, *files.unet, nn::NameMap(), files.dtype, files.device);
  model->vae = build_vae(files);
  const bool upcast = files.dtype == at::kHalf && model->vae->force_upcast();
  nn::load_parameters(*model->vae, *files.vae, models::vae::Names(*files.vae), upcast ? at::kFloat : files.dtype,
                      files.device);
  model->load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return model;
}

namespace {

/// Marks a component's tensors and adds its share to the plan.
void account(nn::Module& network, io::WeightSource& source, const nn::NameMap& names, const std::string& prefix,
             std::int64_t element, MemoryPlan& plan) {
  nn::account_parameters(network, source, names);
  for (const auto& parameter : network.parameters()) {
    plan.parameters += parameter.numel();
    plan.weight_bytes += parameter.numel() * element;
  }
  for (const std::string& name : source.missing()) plan.missing.push_back(prefix + name);
  for (const std::string& name : source.unused()) plan.unused.push_back(prefix + name);
  plan.tensors += static_cast<std::int64_t>(source.names().size());
}

}  // namespace

MemoryPlan plan_memory(const ImageModelFiles& files, std::int64_t width, std::int64_t height, std::int64_t batch,
                       bool tiled_vae) {
  MemoryPlan plan;
  plan.family = family_name(files.family);
  const auto element = static_cast<std::int64_t>(c10::elementSize(files.dtype));
  for (std::size_t i = 0; i < files.text_encoders.size(); ++i) {
    const TextEncoderFiles& encoder = files.text_encoders[i];
    models::clip::TextEncoder network(encoder.config);
    models::clip::note_ignored(*encoder.weights);
    const std::string prefix = i + 1 == files.text_encoders.size() && i > 0 ? "text_encoder_2/" : "text_encoder/";
    account(network, *encoder.weights, nn::NameMap(), prefix, element, plan);
  }
  models::unet::UNet unet(files.unet_config);
  account(unet, *files.unet, nn::NameMap(), "unet/", element, plan);
  const auto vae = build_vae(files);
  const std::int64_t vae_element = files.dtype == at::kHalf && vae->force_upcast() ? 4 : element;
  account(*vae, *files.vae, models::vae::Names(*files.vae), "vae/", vae_element, plan);

  // The widest places: the UNet's finest level with its skips (a picture's two halves of guidance side by side on a CPU,
  // all pictures on a GPU), and the decoder's last level, whose maps have the picture's size.
  const std::int64_t downscale = vae->downscale();
  const std::int64_t latent_pixels = (width / downscale) * (height / downscale);
  const std::int64_t rows = files.device.is_cpu() ? 2 : 2 * batch;
  const std::int64_t unet_bytes = rows * latent_pixels * files.unet_config.levels.front().channels * 24 * element;
  const std::int64_t tile = 512;
  const std::int64_t decoded = tiled_vae ? std::min(width, tile) * std::min(height, tile) : width * height;
  const Json channels = files.vae_json.value("block_out_channels", Json::array({128}));
  const std::int64_t finest = channels.is_array() && !channels.empty() && channels[0].is_number_integer()
                                  ? channels[0].get<std::int64_t>()
                                  : 128;
  const std::int64_t vae_bytes = decoded * finest * 2 * 4 * vae_element;
  plan.activation_bytes = std::max(unet_bytes, vae_bytes) + batch * width * height * 3 * 5;
  return plan;
}

}  // namespace atelier::pipelines
