#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/adapters/adapters.h"
#include "pipelines/image_model.h"

namespace atelier::pipelines {

/// A LoRA file (or one of its kin) that a picture is to be made with.
struct LoraRequest {
  std::string path;
  double unet_scale = 1, text_scale = 1;
  bool operator==(const LoraRequest&) const = default;
};

/// What became of one: records tell it.
struct LoraReport {
  LoraRequest request;
  std::size_t modules = 0;             ///< weights that it changed
  std::size_t matched = 0;             ///< keys that found a module
  std::vector<std::string> unmatched;  ///< keys that did not, or whose format is unknown
};

/// The networks of a model that adapters may change, by diffusers' names.
std::vector<models::adapters::Part> adapter_parts(const ImageModel& model);

/// A file of adapters, opened: .safetensors, or through the restricted reader of torch.save files. Error(no_input), Error(data).
models::adapters::Adapter open_lora(const std::string& path);

/// The LoRA files of a loaded model, merged into its weights; other than the weights nothing of the model changes.
class ImageLoras {
 public:
  explicit ImageLoras(const ImageModel& model);

  /// Puts these in place of the earlier ones; the same list again costs nothing. Error(data): a file that fits nothing of this
  /// model, or whose tensors have other sizes (made for another family); the weights are then as they were.
  const std::vector<LoraReport>& use(const std::vector<LoraRequest>& wanted);

 private:
  std::vector<models::adapters::Part> parts_;
  models::adapters::Merger merger_;
  std::map<std::string, models::adapters::Adapter> files_;  ///< by path, headers read
  std::vector<LoraReport> reports_;
};

}  // namespace atelier::pipelines
