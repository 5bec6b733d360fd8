#include "train/image/tensor_cache.h"

#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "io/file_system.h"
#include "io/tensor_file.h"

namespace atelier::train::image {

namespace fs = std::filesystem;

TensorCache::TensorCache(const std::string& folder, const std::string& kind, const base::Json& settings)
    : folder_((fs::path(folder) / fmt::format("{}-{}", kind, base::sha256_hex(base::dump_json(settings)).substr(0, 16)))
                  .native()) {}

std::string TensorCache::path(const std::string& key) const { return folder_ + "/" + key + ".safetensors"; }

bool TensorCache::has(const std::string& key) const {
  std::error_code ignored;
  return fs::is_regular_file(path(key), ignored);
}

std::optional<TensorMap> TensorCache::load(const std::string& key) const {
  if (!has(key)) return std::nullopt;
  try {
    return io::read_tensors(path(key));
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    base::log_warning(fmt::format("the cache's entry is computed anew: {}", error.what()));
    return std::nullopt;
  }
}

void TensorCache::store(const std::string& key, const TensorMap& tensors) const {
  io::file_system().create_folders(folder_);
  io::write_tensors(path(key), tensors);
}

TensorMap TensorCache::get(const std::string& key, const std::function<TensorMap()>& compute) const {
  if (auto found = load(key)) return std::move(*found);
  TensorMap tensors = compute();
  store(key, tensors);
  return tensors;
}

}  // namespace atelier::train::image
