#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace atelier::models::adapters {

/// Which modules of a model are meant: a list of names (a path, or its last parts: "q_proj", "self_attn.q_proj"), or one
/// regular expression for whole paths, or the word "all-linear".
struct ModuleSelection {
  std::vector<std::string> names;
  std::string expression;

  bool empty() const { return names.empty() && expression.empty(); }
};

/// `adapter_config.json` of a LoRA adapter as Python's peft writes it (0.21 and before).
struct PeftConfig {
  std::int64_t r = 8;
  double lora_alpha = 8, lora_dropout = 0;
  bool use_rslora = false;  ///< scale alpha / sqrt(r) instead of alpha / r (arXiv:2312.03732)
  bool use_dora = false;    ///< arXiv:2402.09353
  ModuleSelection target_modules, exclude_modules;
  std::vector<std::int64_t> layers_to_transform;  ///< empty: all
  std::vector<std::string> layers_pattern;        ///< expressions for the name before the layer's number; empty: any
  /// Other ranks and alphas for the modules whose path ends with the key, a regular expression; the first that fits counts.
  std::vector<std::pair<std::string, double>> rank_pattern, alpha_pattern;
  std::vector<std::string> modules_to_save;  ///< modules that the file brings whole
  std::string bias = "none";                 ///< none | all | lora_only
  std::string init_lora_weights = "true";    ///< how training starts: true | gaussian
  std::string base_model;                    ///< base_model_name_or_path, or empty
};

/// Reads a configuration. Every key that peft knows is read: one whose value asks for something that is not supported here
/// (other peft types, lora_bias, variants of LoRA other than DoRA, initialisations that change the base weights, ...) is
/// Error(data) naming the key, and so is an unknown key, unless its value is null, false or empty.
PeftConfig parse_peft_config(const base::Json& json, const std::string& what);

/// The same as peft would write it.
base::Json peft_json(const PeftConfig& config);

}  // namespace atelier::models::adapters
