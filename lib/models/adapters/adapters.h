#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/weight_source.h"
#include "models/unet/config.h"
#include "nn/module.h"

/// LoRA and its kin for image models: files of any format of the field, merged into the weights.
namespace atelier::models::adapters {

/// A model that adapters may change, by its folder's name in diffusers: "unet", "text_encoder", "text_encoder_2".
struct Part {
  std::string name;
  std::shared_ptr<nn::Module> module;
  /// Of a UNet: files made for the original layout name its modules otherwise. Read by Merger's constructor only.
  const unet::Config* unet_config = nullptr;
};

/// One adapter of a run.
struct Adapter {
  std::shared_ptr<io::WeightSource> file;
  double scale = 1;
  std::map<std::string, std::string> metadata = {};  ///< the file's `__metadata__`: diffusers keeps peft's alpha there
  std::optional<double> text_scale = {};             ///< of the text encoders, where it is another
};

/// What became of one file.
struct Report {
  std::size_t modules = 0;             ///< weights that it changed (or would, at scale 0)
  std::size_t matched = 0;             ///< keys that found a module
  std::vector<std::string> unmatched;  ///< keys that did not, or whose format is unknown
};

/// The adapters of a model. Weights are replaced by weight + sum of deltas, computed in f32 and rounded once; the model's own
/// ones are kept, so that another set of adapters starts from them again.
class Merger {
 public:
  /// Weights have to be loaded already.
  explicit Merger(std::vector<Part> parts);
  ~Merger() = default;  // leaves the weights as they are

  /// Puts these adapters in place of the earlier ones; an empty list restores the model. Formats: kohya (`lora_unet_`, `lora_te_`,
  /// `lora_te1_`, `lora_te2_`, SDXL's original block names), diffusers and peft (`unet.`, `text_encoder.`, old `processor` and
  /// `lora_linear_layer` keys), LoCon, LoHa, LoKr, DoRA. Reports come in the adapters' order. An adapter of scale 0 changes
  /// nothing. Looks at the stop flag. Error(data), the weights unchanged: tensors that do not fit the module that they name.
  std::vector<Report> apply(const std::vector<Adapter>& adapters);

 private:
  struct Target {
    std::string part, path;
    at::Tensor weight;    // shares the parameter
    at::Tensor original;  // its own data; undefined while unchanged
  };

  void add_aliases(const Part& part, const std::string& path, std::size_t target);

  std::vector<Target> targets_;
  std::map<std::string, std::size_t> aliases_;  // every way to name a module -> place in targets_
};

}  // namespace atelier::models::adapters
