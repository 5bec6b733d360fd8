#pragma once

#include <string>
#include <vector>

#include "models/adapters/peft_match.h"
#include "models/gemma/model.h"
#include "nn/embedding.h"
#include "nn/linear.h"

namespace atelier::models::adapters {

/// A module that a configuration selects: one of the pointers is set, and valid as long as the model.
struct SelectedModule {
  std::string path;
  nn::Linear* linear = nullptr;
  nn::Embedding* embedding = nullptr;

  std::vector<std::shared_ptr<nn::Adapter>>& adapters() const {
    return linear ? linear->adapters : embedding->adapters;
  }
  /// Shapes of lora_a, lora_b and magnitude of the given rank.
  std::vector<std::int64_t> a_shape(std::int64_t rank) const {
    return {rank, linear ? linear->in() : embedding->weight.size(0)};
  }
  std::vector<std::int64_t> b_shape(std::int64_t rank) const { return {out(), rank}; }
  std::vector<std::int64_t> magnitude_shape() const { return {out()}; }
  std::int64_t out() const { return linear ? linear->out() : embedding->weight.size(1); }
};

/// In the order of the module tree. `prefix`: see PeftAdapter; expressions are for paths spelled with it. Error(data), starting
/// with `what`, where a selected module is neither a linear map nor an embedding.
std::vector<SelectedModule> selected_modules(gemma::CausalLm& model, const PeftMatcher& matcher,
                                             const std::string& what, const std::string& prefix = "model.");

/// A path or name of the model as a file with that prefix spells it.
std::string spelled(const std::string& name, const std::string& prefix);

}  // namespace atelier::models::adapters
