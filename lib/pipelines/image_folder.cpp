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

namespace atelier::pipelines {
namespace {

namespace fs = std::filesystem;

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

}  // namespace

bool can_write_folder(const ImageModelFiles& origin) { return origin.single_file == nullptr; }

void write_image_folder(const std::string& folder, const ImageModelFiles& origin, const ImageModel& model,
                        bool text_encoders, at::ScalarType dtype) {
  const fs::path to(folder);
  for (const char* part : {"unet", "vae"}) io::file_system().create_folders((to / part).string());
  copy_small_files(origin.path, to);
  write_module((to / "unet/diffusion_pytorch_model.safetensors").string(), *model.unet, nn::NameMap(), dtype);
  io::write_atomically((to / "vae/config.json").string(), origin.vae_json.dump(2) + "\n");  // --vae has its own
  write_stored((to / "vae/diffusion_pytorch_model.safetensors").string(), *origin.vae);
  const bool refiner = model.family == ImageFamily::sdxl_refiner;
  for (std::size_t i = 0; i < model.text_encoders.size(); ++i) {
    const fs::path part = to / (i == 0 && !refiner ? "text_encoder" : "text_encoder_2");
    io::file_system().create_folders(part.string());
    const std::string path = (part / "model.safetensors").string();
    auto& stored = *origin.text_encoders[i].weights;
    if (text_encoders)
      write_module(path, *model.text_encoders[i].network, models::clip::Names(stored), dtype);
    else
      write_stored(path, stored);
  }
  io::write_atomically((to / kIndex).string(), io::read_file(origin.path + "/" + kIndex, kLargestCopied));
}

}  // namespace atelier::pipelines
