#include "pipelines/weight_files.h"

#include <filesystem>
#include <vector>

#include "io/shards.h"
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
  const std::vector<std::string> variants = {"", ".fp16", ".bf16", ".fp32"};
  for (const std::string& variant : variants)
    if (io::has_checkpoint(folder, stem + variant)) return io::WeightSource::open(folder, stem + variant);
  const std::string older = folder + "/" + (stem == "model" ? "pytorch_model" : stem);
  for (const std::string& variant : variants)
    if (exists(older + variant + ".bin")) return io::open_torch_checkpoint(older + variant + ".bin");
  return io::WeightSource::open(folder, stem);
}

}  // namespace atelier::pipelines
