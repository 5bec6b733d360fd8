#include "models/adapters/adapters.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/scalar_tensor.h>

#include "base/json.h"
#include "base/stop.h"
#include "models/adapters/delta.h"
#include "models/adapters/keys.h"
#include "models/single_file/layout.h"

namespace atelier::models::adapters {
namespace {

constexpr std::string_view weight_ending = ".weight";

std::string underscored(std::string text) {
  std::replace(text.begin(), text.end(), '.', '_');
  return text;
}

/// kohya's prefixes of a part. A single text encoder is `te`; in a pair they are counted.
std::vector<std::string> kohya_prefixes(const std::string& part) {
  if (part == "unet") return {"lora_unet_", "lycoris_unet_"};
  if (part == "text_encoder") return {"lora_te_", "lora_te1_", "lycoris_te_", "lycoris_te1_"};
  if (part == "text_encoder_2") return {"lora_te2_", "lycoris_te2_"};
  return {};
}

/// What diffusers writes beside the tensors (`lora_adapter_metadata`): peft's configuration of each part, as one flat object.
class PeftConfig {
 public:
  explicit PeftConfig(const std::map<std::string, std::string>& metadata) {
    if (const auto place = metadata.find("lora_adapter_metadata"); place != metadata.end())
      json_ = base::parse_json(place->second, "lora_adapter_metadata");
    if (!json_.is_object()) json_ = base::Json::object();
  }

  /// peft's alpha for a module of the part, or 0 where nothing is said. With rank-stabilised scaling (alpha / sqrt(rank)) it is
  /// turned into the alpha that gives the same strength over `rank`.
  double alpha(const std::string& part, const std::string& path, std::int64_t rank) const {
    double value = number(json_, part + ".lora_alpha");
    if (const auto patterns = json_.find(part + ".alpha_pattern"); patterns != json_.end() && patterns->is_object())
      for (const auto& [name, alpha] : patterns->items())
        if (alpha.is_number() && (path == name || path.ends_with("." + name))) value = alpha.get<double>();
    const auto stable = json_.find(part + ".use_rslora");
    const bool rooted = stable != json_.end() && *stable == base::Json(true);
    return rooted ? value * std::sqrt(static_cast<double>(rank)) : value;
  }

 private:
  static double number(const base::Json& json, const std::string& key) {
    const auto place = json.find(key);
    return place != json.end() && place->is_number() ? place->get<double>() : 0;
  }
  base::Json json_ = base::Json::object();
};

/// The adapter's tensors for each target, and what found none.
struct Sorted {
  std::map<std::size_t, Roles> roles;
  Report report;
};

}  // namespace

Merger::Merger(std::vector<Part> parts) {
  for (const Part& part : parts)
    for (const auto& entry : part.module->named_parameters()) {
      const std::string& name = entry.key();
      // Linear maps and convolutions, but not token tables: adapters name none.
      if (!name.ends_with(weight_ending) || entry.value().dim() < 2 ||
          name.find("embedding.weight") != std::string::npos)
        continue;
      const std::string path = name.substr(0, name.size() - weight_ending.size());
      targets_.push_back({part.name, path, entry.value(), {}});
      add_aliases(part, path, targets_.size() - 1);
    }
}

void Merger::add_aliases(const Part& part, const std::string& path, std::size_t target) {
  std::vector<std::string> names{path};
  if (part.unet_config) {
    const std::string original = single_file::unet_stored(*part.unet_config, path + std::string(weight_ending)).name;
    if (!original.empty()) {
      names.push_back(original.substr(0, original.size() - weight_ending.size()));
      aliases_.emplace("diffusion_model." + names.back(), target);
    }
  }
  for (const std::string& name : names) {
    aliases_.emplace(part.name + "." + name, target);
    for (const std::string& prefix : kohya_prefixes(part.name)) aliases_.emplace(prefix + underscored(name), target);
  }
  // Later versions of transformers have no such group; what is saved may show it.
  constexpr std::string_view group = "text_model.";
  if (path.starts_with(group)) aliases_.emplace(part.name + "." + path.substr(group.size()), target);
  // Files of one part alone: peft's own, and attention processors saved without the part's name.
  if (part.name != "text_encoder_2") {
    aliases_.emplace("base_model.model." + path, target);
    aliases_.emplace(path, target);
  }
}

std::vector<Report> Merger::apply(const std::vector<Adapter>& adapters) {
  const at::NoGradGuard no_grad;
  std::vector<Report> reports;
  std::map<std::size_t, at::Tensor> sums;  // f32, per target
  for (const Adapter& adapter : adapters) {
    Sorted sorted;
    const PeftConfig peft(adapter.metadata);
    for (const std::string& name : adapter.file->names()) {
      const auto key = parse_key(name);
      const auto place = key ? aliases_.find(key->module) : aliases_.end();
      if (place == aliases_.end()) {
        sorted.report.unmatched.push_back(name);
        continue;
      }
      ++sorted.report.matched;
      sorted.roles[place->second][key->role] = adapter.file->load(name, at::kFloat, at::kCPU);
    }
    sorted.report.modules = sorted.roles.size();
    for (auto& [index, roles] : sorted.roles) {
      base::throw_if_stopped();
      const Target& target = targets_[index];
      if (roles.contains("down") && !roles.contains("alpha")) {
        const double alpha = peft.alpha(target.part, target.path, roles["down"].dim() > 0 ? roles["down"].size(0) : 1);
        if (alpha > 0) roles["alpha"] = at::scalar_tensor(alpha, at::kFloat);
      }
      const at::Tensor own = target.original.defined() ? target.original : target.weight.detach();
      const double scale = target.part == "unet" ? adapter.scale : adapter.text_scale.value_or(adapter.scale);
      const auto added = delta(roles, own.to(at::kCPU), scale, target.part + "." + target.path);
      if (scale == 0) continue;
      auto& sum = sums[index];
      sum = sum.defined() ? sum + added : added;
    }
    reports.push_back(std::move(sorted.report));
  }
  for (std::size_t i = 0; i < targets_.size(); ++i) {
    Target& target = targets_[i];
    const auto sum = sums.find(i);
    if (sum != sums.end()) {
      // A second handle keeps the model's own data alive while the parameter points elsewhere.
      if (!target.original.defined()) target.original = target.weight.detach();
      const auto& own = target.original;
      target.weight.set_data((own.to(at::kFloat) + sum->second.to(own.device())).to(own.scalar_type()).contiguous());
    } else if (target.original.defined()) {
      target.weight.set_data(target.original);
      target.original = at::Tensor();
    }
  }
  return reports;
}

}  // namespace atelier::models::adapters
