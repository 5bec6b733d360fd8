#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Generator.h>

#include "models/adapters/peft_config.h"
#include "models/gemma/model.h"
#include "nn/adapter.h"

/// Adapters in the format of Python's peft, on a model whose module paths are those of transformers.
namespace atelier::models::adapters {

/// An adapter as it sits in a model.
struct PeftAdapter {
  struct Target {
    std::string path;  ///< "model.layers.0.self_attn.q_proj"
    std::shared_ptr<nn::Adapter> adapter;
    bool embedding = false;
  };

  PeftConfig config;
  std::vector<Target> targets;  ///< in the order of the module tree
  /// Weights and biases that the file brought whole, by the model's names ("lm_head.weight").
  std::map<std::string, at::Tensor> whole;
  /// What the file's names have for "model.": "model.language_model." of an adapter made for a multimodal folder.
  std::string prefix = "model.";

  /// The tensors of adapter_model.safetensors by their names there, `base_model.model.PATH.lora_A.weight`; those of the
  /// targets are the adapter's own, not copies.
  std::vector<std::pair<std::string, at::Tensor>> tensors() const;
  void set_training(bool training) const;    ///< switches dropout
  void set_trainable(bool trainable) const;  ///< whether the tensors ask for gradients
  void set_active(bool active) const;
};

/// Puts a new adapter on every module that the configuration selects, by peft's rules. Values as peft's, drawn from
/// `generator`: lora_A uniform (kaiming, a = sqrt 5), lora_B 0; of an embedding A 0, B normal; magnitudes are the norms of the
/// weights' rows. The tensors are f32 and ask for gradients; dropout is off until set_training. The weights have to be loaded.
/// Error(data) naming what is wrong: no module fits, a selected one cannot have an adapter, `bias` or `modules_to_save`.
PeftAdapter attach(gemma::CausalLm& model, const PeftConfig& config, const at::Generator& generator);

/// Takes an adapter off again. Weights that it brought whole stay.
void detach(gemma::CausalLm& model, const PeftAdapter& adapter);

/// Loads a folder of adapter_config.json and adapter_model.safetensors and puts it on the model, its scale times `scale`. The
/// tensors are f32 and ask for no gradients. What an adapter of a multimodal model holds for the vision tower is left alone.
/// Error(no_input): a part is missing. Error(data): see parse_peft_config; a tensor whose shape does not fit the model's
/// module (both shapes are named); a tensor for a module that the model does not have; tensors missing or left over.
PeftAdapter load_peft(gemma::CausalLm& model, const std::string& folder, double scale = 1);

/// The bytes that load_peft would bring. `model` needs no weights, only its shapes; errors as load_peft's.
std::int64_t peft_bytes(gemma::CausalLm& model, const std::string& folder);

/// The two files of an adapter's folder, adapter_config.json first.
std::vector<std::string> peft_files(const std::string& folder);

/// Writes the two files into a folder (made if need be), each whole or not at all; peft loads them.
void save_peft(const std::string& folder, const PeftAdapter& adapter);

}  // namespace atelier::models::adapters
