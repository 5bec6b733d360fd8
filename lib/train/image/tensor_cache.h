#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/json.h"
#include "train/parameters.h"

namespace atelier::train::image {

/// Tensors that take long to compute, on disk: latents of pictures, embeddings of captions. One safetensors file for each
/// entry, FOLDER/KIND-HASH/KEY.safetensors, where HASH is of the settings that they depend on. Files are written whole, and
/// an entry never changes, so any number of runs and processes can share a folder; one that is stopped leaves what it has.
class TensorCache {
 public:
  /// `settings`: everything but the key that decides the tensors (the model's fingerprint among it).
  TensorCache(const std::string& folder, const std::string& kind, const base::Json& settings);

  bool has(const std::string& key) const;
  /// Tensors on the CPU that share mapped pages: do not write to them. Nothing where there is no entry; a damaged one is a
  /// warning and nothing.
  std::optional<TensorMap> load(const std::string& key) const;
  /// Error(cannot_create), Error(io).
  void store(const std::string& key, const TensorMap& tensors) const;
  /// The entry, computed and stored where there is none.
  TensorMap get(const std::string& key, const std::function<TensorMap()>& compute) const;

  const std::string& folder() const { return folder_; }

 private:
  std::string path(const std::string& key) const;

  std::string folder_;
};

}  // namespace atelier::train::image
