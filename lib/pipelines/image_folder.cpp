#include "pipelines/image_folder.h"

#include <filesystem>
#include <map>
#include <system_error>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/stop.h"
#include "io/file_system.h"
#include "io/tensor_file.h"
#include "models/clip/names.h"
#include "models/single_file/single_file.h"
#include "text/clip_tokenizer_files.h"

namespace atelier::pipelines {
namespace {

namespace fs = std::filesystem;
namespace single_file = models::single_file;

constexpr const char* kIndex = "model_index.json";
constexpr std::size_t kLargestCopied = 256u << 20;

/// Weights are written anew, under one name, whatever shards or variants the origin has.
bool is_weights(const fs::path& path) {
  const std::string name = path.filename().string();
  return path.extension() == ".safetensors" || path.extension() == ".bin" || path.extension() == ".ckpt" ||
         name.ends_with(".safetensors.index.json") || name.ends_with(".bin.index.json");
}

void copy_small_files(const fs::path& from, const fs::path& to) {
  for (const auto& entry : fs::recursive_directory_iterator(from)) {
    const fs::path inner = entry.path().lexically_relative(from);
    if (!entry.is_regular_file() || is_weights(inner) || inner == kIndex || inner.begin()->string().starts_with('.'))
      continue;
    base::throw_if_stopped();
    io::file_system().create_folders((to / inner).parent_path().string());
    io::write_atomically((to / inner).string(), io::read_file(entry.path().string(), kLargestCopied));
  }
}

/// A part that was not trained, in the format in which it is stored.
void write_stored(const std::string& path, io::WeightSource& source) {
  io::TensorMap tensors;
  for (const std::string& name : source.names())
    tensors[name] = source.load(name, io::scalar_type(source.info(name).dtype), at::kCPU);
  io::write_tensors(path, tensors, {{"format", "pt"}});
}

void write_module(const std::string& path, const nn::Module& module, const nn::NameMap& names, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  io::TensorMap tensors;
  for (const auto& entry : module.named_parameters())
    tensors[names.stored(entry.key())] = entry.value().detach().to(at::kCPU, dtype);
  io::write_tensors(path, tensors, {{"format", "pt"}});
}

void write_json(const fs::path& path, const base::Json& json) {
  io::file_system().create_folders(path.parent_path().string());
  io::write_atomically(path.string(), json.dump(2) + "\n");
}

bool is_xl(const ImageModelFiles& origin) { return origin.unet_config.has_addition(); }

/// Folders of the text encoder `i` and of its tokenizer: NAME + suffix.
std::string suffix_of(const ImageModelFiles& origin, std::size_t i) {
  return i == 0 && origin.family != ImageFamily::sdxl_refiner ? "" : "_2";
}

void write_tokenizer(const fs::path& folder, const TextEncoderFiles& encoder) {
  if (!encoder.tokenizer_folder.empty()) return copy_small_files(encoder.tokenizer_folder, folder);
  io::file_system().create_folders(folder.string());
  for (const auto& [name, text] : text::clip_tokenizer_files(text::builtin_clip_tokenizer(encoder.zero_pad)))
    io::write_atomically((folder / name).string(), text);
}

/// The configurations of a single file's parts, and the tokenizers.
void write_small_files(const fs::path& to, const ImageModelFiles& origin) {
  const auto description = single_file::recognise(*origin.single_file);
  write_json(to / "unet/config.json", description.unet);
  write_json(to / "scheduler/scheduler_config.json", origin.scheduler_json);
  for (std::size_t i = 0; i < origin.text_encoders.size(); ++i) {
    base::throw_if_stopped();
    const std::string suffix = suffix_of(origin, i);
    const auto part = suffix.empty() ? single_file::Component::text_encoder : single_file::Component::text_encoder_2;
    write_json(to / ("text_encoder" + suffix) / "config.json", description.config(part));
    write_tokenizer(to / ("tokenizer" + suffix), origin.text_encoders[i]);
  }
}

/// model_index.json of a single file's folder.
base::Json index_of(const ImageModelFiles& origin) {
  const bool refiner = origin.family == ImageFamily::sdxl_refiner;
  base::Json index = {{"_class_name", refiner         ? "StableDiffusionXLImg2ImgPipeline"
                                      : is_xl(origin) ? "StableDiffusionXLPipeline"
                                                      : "StableDiffusionPipeline"},
                      {"scheduler", {"diffusers", origin.scheduler_json.at("_class_name")}},
                      {"unet", {"diffusers", "UNet2DConditionModel"}},
                      {"vae", {"diffusers", origin.vae_json.value("_class_name", "AutoencoderKL")}}};
  for (std::size_t i = 0; i < origin.text_encoders.size(); ++i) {
    const std::string suffix = suffix_of(origin, i);
    const bool projection = origin.text_encoders[i].config.projection_dim > 0;
    index["text_encoder" + suffix] = {"transformers", projection ? "CLIPTextModelWithProjection" : "CLIPTextModel"};
    index["tokenizer" + suffix] = {"transformers", "CLIPTokenizer"};
  }
  if (is_xl(origin)) {
    index["force_zeros_for_empty_prompt"] = origin.zero_empty_negative;
    index["requires_aesthetics_score"] = origin.aesthetic_score;
  } else {
    index["requires_safety_checker"] = false;
  }
  return index;
}

}  // namespace

void write_image_folder(const std::string& folder, const ImageModelFiles& origin, const ImageModel& model,
                        bool text_encoders, at::ScalarType dtype) {
  const fs::path to(folder);
  const bool from_folder = origin.single_file == nullptr;
  for (const char* part : {"unet", "vae"}) io::file_system().create_folders((to / part).string());
  if (from_folder)
    copy_small_files(origin.path, to);
  else
    write_small_files(to, origin);
  write_module((to / "unet/diffusion_pytorch_model.safetensors").string(), *model.unet, nn::NameMap(), dtype);
  write_json(to / "vae/config.json", origin.vae_json);  // --vae has its own
  write_stored((to / "vae/diffusion_pytorch_model.safetensors").string(), *origin.vae);
  for (std::size_t i = 0; i < model.text_encoders.size(); ++i) {
    const fs::path part = to / ("text_encoder" + suffix_of(origin, i));
    io::file_system().create_folders(part.string());
    const std::string path = (part / "model.safetensors").string();
    auto& stored = *origin.text_encoders[i].weights;
    if (text_encoders)
      write_module(path, *model.text_encoders[i].network, models::clip::Names(stored), dtype);
    else
      write_stored(path, stored);
  }
  if (from_folder)
    io::write_atomically((to / kIndex).string(), io::read_file(origin.path + "/" + kIndex, kLargestCopied));
  else
    write_json(to / kIndex, index_of(origin));
}

}  // namespace atelier::pipelines
