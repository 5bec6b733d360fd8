#include "models/adapters/peft.h"

#include <cmath>
#include <string_view>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "models/adapters/peft_modules.h"

namespace atelier::models::adapters {
namespace {

using base::Error;
using base::ExitCode;

constexpr const char* head = "lm_head";

at::Tensor new_down(const nn::Linear& base, std::int64_t rank, const PeftConfig& config, const at::Generator& generator,
                    const at::TensorOptions& options) {
  auto a = at::empty({rank, base.in()}, options);
  if (config.init_lora_weights == "gaussian") return a.normal_(0, 1.0 / static_cast<double>(rank), generator);
  const double bound = 1 / std::sqrt(static_cast<double>(base.in()));  // kaiming_uniform_ with a = sqrt(5)
  return a.uniform_(-bound, bound, generator);
}

std::shared_ptr<nn::Adapter> new_adapter(const PeftConfig& config, const PeftMatcher& matcher, const std::string& path,
                                         const at::Generator& generator) {
  auto adapter = std::make_shared<nn::Adapter>();
  adapter->scale = matcher.scale(path);
  adapter->dropout = config.lora_dropout;
  adapter->generator = generator;
  return adapter;
}

void fill(nn::Adapter& adapter, const nn::Linear& base, std::int64_t rank, const PeftConfig& config,
          const at::Generator& generator, const at::TensorOptions& options) {
  adapter.lora_a = new_down(base, rank, config, generator, options);
  adapter.lora_b = at::zeros({base.out(), rank}, options);
  if (config.use_dora)
    adapter.magnitude = nn::adapted_norms(adapter, base.dense_weight(at::kFloat), /*embedding=*/false);
}

void fill(nn::Adapter& adapter, const nn::Embedding& base, std::int64_t rank, const PeftConfig& config,
          const at::Generator& generator, const at::TensorOptions& options) {
  adapter.lora_a = at::zeros({rank, base.weight.size(0)}, options);
  adapter.lora_b = at::empty({base.weight.size(1), rank}, options).normal_(0, 1, generator);
  if (config.use_dora) adapter.magnitude = nn::adapted_norms(adapter, base.dense_weight(at::kFloat), /*embedding=*/true);
}

}  // namespace

std::vector<SelectedModule> selected_modules(gemma::CausalLm& model, const PeftMatcher& matcher,
                                             const std::string& what, const std::string& prefix) {
  std::vector<SelectedModule> selected;
  for (const auto& entry : model.named_modules()) {
    SelectedModule module{.path = entry.key(),
                          .linear = entry.value()->as<nn::Linear>(),
                          .embedding = entry.value()->as<nn::Embedding>()};
    if (!matcher.selects(spelled(entry.key(), prefix), module.linear && entry.key() != head)) continue;
    if (!module.linear && !module.embedding)
      throw Error(ExitCode::data, fmt::format("{}: \"{}\" is no linear map and no embedding: it cannot have an adapter",
                                              what, entry.key()));
    selected.push_back(std::move(module));
  }
  return selected;
}

std::string spelled(const std::string& name, const std::string& prefix) {
  constexpr std::string_view model = "model.";
  if (name.starts_with(model)) return prefix + name.substr(model.size());
  return prefix.starts_with("language_model.") ? "language_model." + name : name;
}

std::vector<std::pair<std::string, at::Tensor>> PeftAdapter::tensors() const {
  std::vector<std::pair<std::string, at::Tensor>> list;
  for (const Target& target : targets) {
    const std::string start = "base_model.model." + spelled(target.path, prefix);
    list.emplace_back(start + (target.embedding ? ".lora_embedding_A" : ".lora_A.weight"), target.adapter->lora_a);
    list.emplace_back(start + (target.embedding ? ".lora_embedding_B" : ".lora_B.weight"), target.adapter->lora_b);
    if (target.adapter->magnitude.defined())
      list.emplace_back(start + ".lora_magnitude_vector", target.adapter->magnitude);
  }
  for (const auto& [name, tensor] : whole) list.emplace_back("base_model.model." + spelled(name, prefix), tensor);
  return list;
}

void PeftAdapter::set_training(bool training) const {
  for (const Target& target : targets) target.adapter->training = training;
}

void PeftAdapter::set_active(bool active) const {
  for (const Target& target : targets) target.adapter->active = active;
}

void PeftAdapter::set_trainable(bool trainable) const {
  for (const Target& target : targets)
    for (const at::Tensor* tensor : {&target.adapter->lora_a, &target.adapter->lora_b, &target.adapter->magnitude})
      if (tensor->defined()) tensor->set_requires_grad(trainable);
}

PeftAdapter attach(gemma::CausalLm& model, const PeftConfig& config, const at::Generator& generator) {
  const std::string what = "the adapter";
  if (config.bias != "none")
    throw Error(ExitCode::data, fmt::format("{}: \"bias\": training biases is not supported", what));
  if (!config.modules_to_save.empty())
    throw Error(ExitCode::data, fmt::format("{}: \"modules_to_save\": training whole modules is not supported", what));
  if (config.init_lora_weights != "true" && config.init_lora_weights != "gaussian")
    throw Error(ExitCode::data, fmt::format("{}: \"init_lora_weights\": \"{}\" is not supported for a new adapter",
                                            what, config.init_lora_weights));
  const at::NoGradGuard no_grad;
  const PeftMatcher matcher(config, what);
  const auto options = at::TensorOptions().dtype(at::kFloat).device(model.device());
  PeftAdapter result{.config = config, .targets = {}, .whole = {}};
  const auto selected = selected_modules(model, matcher, what);
  if (selected.empty())
    throw Error(ExitCode::data, fmt::format("{}: \"target_modules\" selects no module of the model", what));
  for (const SelectedModule& module : selected) {
    auto adapter = new_adapter(config, matcher, module.path, generator);
    const std::int64_t rank = matcher.rank(module.path);
    if (module.linear)
      fill(*adapter, *module.linear, rank, config, generator, options);
    else
      fill(*adapter, *module.embedding, rank, config, generator, options);
    module.adapters().push_back(adapter);
    result.targets.push_back({.path = module.path, .adapter = adapter, .embedding = module.embedding != nullptr});
  }
  result.set_trainable(true);
  return result;
}

void detach(gemma::CausalLm& model, const PeftAdapter& adapter) {
  const auto modules = model.named_modules();
  for (const auto& target : adapter.targets) {
    const auto& module = modules[target.path];
    if (auto* linear = module->as<nn::Linear>()) std::erase(linear->adapters, target.adapter);
    if (auto* embedding = module->as<nn::Embedding>()) std::erase(embedding->adapters, target.adapter);
  }
}

}  // namespace atelier::models::adapters
