#include "pipelines/weight_files.h"

#include <filesystem>

#include "io/torch_checkpoint.h"

namespace atelier::pipelines {

namespace fs = std::filesystem;

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_folder(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

std::shared_ptr<io::WeightSource> open_weights_file(const std::string& path) {
  return io::is_torch_checkpoint(path) ? io::open_torch_checkpoint(path) : io::WeightSource::open(path);
}

std::shared_ptr<io::WeightSource> open_weights_folder(const std::string& folder, const std::string& stem) {
  for (const std::string& variant : {stem, stem + ".fp16", stem + ".bf16", stem + ".fp32"})
    if (exists(folder + "/" + variant + ".safetensors") || exists(folder + "/" + variant + ".safetensors.index.json"))
      return io::WeightSource::open(folder, variant);
  return io::WeightSource::open(folder, stem);
}

}  // namespace atelier::pipelines
