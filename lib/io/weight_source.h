#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "io/safetensors.h"

namespace atelier::io {

struct WeightFile {
  std::string path;
  std::uint64_t bytes = 0;
};

/// Named tensors of a checkpoint, wherever they lie: the only thing that opens weight files.
/// Keeps score of names that were asked for and not found, and of tensors that nobody asked for. For use by one thread.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  virtual bool has(const std::string& name) const = 0;
  /// Header facts; Error(data) where the name is unknown.
  virtual const TensorInfo& info(const std::string& name) const = 0;
  virtual std::vector<std::string> names() const = 0;
  virtual const std::vector<WeightFile>& files() const = 0;

  /// The tensor in the wanted dtype and device. Where both equal the file's, the tensor shares the mapped pages (no copy;
  /// do not write to it; pages that nothing reads are never fetched). A tensor whose bytes are not aligned to its type is
  /// copied. F8 and integer types are converted by value. Looks at the stop flag. Error(data): unknown name (also recorded
  /// as missing), a dtype that LibTorch has no type for (F4, F6), BOOL bytes other than 0 and 1.
  virtual at::Tensor load(const std::string& name, c10::ScalarType dtype, c10::Device device) = 0;

  /// Lets go of the pages that a tensor was read from, so that they do not count as memory in use. What load() returned of
  /// it stays valid: touched again, its pages come in again. An unknown name is no error.
  virtual void release(const std::string& name) {}

  /// Records a name that a model wanted and that is not there (load does so itself).
  virtual void note_missing(const std::string& name) = 0;
  /// Records a tensor as used without loading it (--plan, or one that is known and deliberately ignored). An unknown
  /// name is no error.
  virtual void note_used(const std::string& name) = 0;
  virtual std::vector<std::string> missing() const = 0;
  virtual std::vector<std::string> unused() const = 0;

  /// Opens a `.safetensors` file, or a folder: `model.safetensors`, else `model.safetensors.index.json` with its shards, else
  /// the only *.safetensors file in it. `stem` replaces "model" (diffusers uses "diffusion_pytorch_model"). Shards must be
  /// plain file names inside the folder: no separators, no `..`, no symbolic link that leaves it (links into a Hugging Face
  /// hub cache's blobs folder, `../../blobs/HASH` from `snapshots/REVISION`, one more `..` for each folder below that, are
  /// allowed). Every tensor of the index must be in its shard.
  /// Error(no_input), Error(data).
  static std::shared_ptr<WeightSource> open(const std::string& path, const std::string& stem = "model");
};

c10::ScalarType scalar_type(DType dtype);  ///< Error(data) where LibTorch has none
DType dtype_of(c10::ScalarType type);      ///< Error(data) likewise

}  // namespace atelier::io
