#include "models/adapters/lora_file.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/scalar_tensor.h>

#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"
#include "io/tensor_file.h"
#include "models/single_file/layout.h"

namespace atelier::models::adapters {
namespace {

using base::Json;

constexpr std::string_view weight_ending = ".weight";

std::string kohya_prefix(const std::string& part, bool xl) {
  if (part == "unet") return "lora_unet_";
  if (part == "text_encoder") return xl ? "lora_te1_" : "lora_te_";
  if (part == "text_encoder_2") return "lora_te2_";
  throw base::Error(base::ExitCode::internal, "kohya's names know no part \"" + part + "\"");
}

/// (out, 1, ...), with as many dimensions as the weight.
at::Tensor column(const at::Tensor& magnitude, std::int64_t dimensions) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(dimensions), 1);
  shape[0] = magnitude.numel();
  return magnitude.reshape(shape);
}

/// As peft has it: (out), of a convolution (1, out, 1, 1).
at::Tensor peft_magnitude(const at::Tensor& magnitude, std::int64_t dimensions) {
  if (dimensions == 2) return magnitude.reshape({-1});
  std::vector<std::int64_t> shape(static_cast<std::size_t>(dimensions), 1);
  shape[1] = magnitude.numel();
  return magnitude.reshape(shape);
}

void add_kohya(std::map<std::string, at::Tensor>& tensors, const LoraModule& m, const KohyaNames& names) {
  const std::string module = kohya_module(m.part, m.path, names);
  tensors[module + ".lora_down.weight"] = m.down;
  tensors[module + ".lora_up.weight"] = m.up;
  tensors[module + ".alpha"] = at::scalar_tensor(m.alpha, at::kFloat);
  if (m.magnitude.defined()) tensors[module + ".dora_scale"] = column(m.magnitude, m.down.dim());
}

void add_peft(std::map<std::string, at::Tensor>& tensors, const LoraModule& m) {
  const std::string module = m.part + "." + m.path;
  const double strength = m.alpha / static_cast<double>(m.down.size(0));
  tensors[module + ".lora_A.weight"] = m.down;
  tensors[module + ".lora_B.weight"] = strength == 1 ? m.up : m.up.to(at::kFloat) * strength;
  if (m.magnitude.defined()) tensors[module + ".lora_magnitude_vector"] = peft_magnitude(m.magnitude, m.down.dim());
}

std::int64_t most_common_rank(const std::map<std::int64_t, std::int64_t>& counts) {
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

/// A module's path by which peft finds it in every version of transformers: paths match from their ends, and later versions have no
/// `text_model` around CLIP's text encoder.
std::string_view target_name(std::string_view path) {
  constexpr std::string_view group = "text_model.";
  return path.starts_with(group) ? path.substr(group.size()) : path;
}

/// peft's LoraConfig of each part as one flat object, "unet.r" and so on: what diffusers writes and reads.
std::string adapter_metadata(const std::vector<LoraModule>& modules) {
  std::map<std::string, std::vector<const LoraModule*>> parts;
  for (const LoraModule& module : modules) parts[module.part].push_back(&module);
  Json config = Json::object();
  for (const auto& [part, own] : parts) {
    std::map<std::int64_t, std::int64_t> counts;
    for (const LoraModule* module : own) ++counts[module->down.size(0)];
    const std::int64_t rank = most_common_rank(counts);
    Json targets = Json::array(), ranks = Json::object();
    for (const LoraModule* module : own) {
      const std::string name(target_name(module->path));
      targets.push_back(name);
      if (module->down.size(0) != rank) ranks[name] = module->down.size(0);
    }
    config[part + ".peft_type"] = "LORA";
    config[part + ".r"] = rank;
    config[part + ".lora_alpha"] = rank;
    config[part + ".rank_pattern"] = ranks;
    config[part + ".alpha_pattern"] = std::move(ranks);
    config[part + ".target_modules"] = std::move(targets);
    config[part + ".use_dora"] = own.front()->magnitude.defined();
  }
  return base::dump_json(config);
}

/// SHA-256 of a file's tensors behind its header, the order being that of io::write_safetensors: by name, since all have
/// one type. Reference: sd-scripts, train_util.addnet_hash_safetensors.
std::string model_hash(const std::map<std::string, at::Tensor>& tensors) {
  std::string bytes;
  for (const auto& [name, tensor] : tensors)
    bytes.append(static_cast<const char*>(tensor.const_data_ptr()), static_cast<std::size_t>(tensor.nbytes()));
  return base::sha256_hex(bytes);
}

}  // namespace

std::string kohya_module(const std::string& part, const std::string& path, const KohyaNames& names) {
  std::string module = path;
  if (part == "unet" && names.unet != nullptr) {
    const std::string original = single_file::unet_stored(*names.unet, path + std::string(weight_ending)).name;
    if (!original.empty()) module = original.substr(0, original.size() - weight_ending.size());
  }
  std::replace(module.begin(), module.end(), '.', '_');
  return kohya_prefix(part, names.xl) + module;
}

std::map<std::string, at::Tensor> lora_tensors(const std::vector<LoraModule>& modules, LoraLayout layout,
                                               const KohyaNames& names, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> tensors;
  for (const LoraModule& module : modules) {
    if (layout == LoraLayout::kohya)
      add_kohya(tensors, module, names);
    else
      add_peft(tensors, module);
  }
  for (auto& [name, tensor] : tensors) tensor = tensor.detach().to(at::kCPU, dtype).contiguous();
  return tensors;
}

void write_lora(const std::string& path, const std::vector<LoraModule>& modules, LoraLayout layout,
                const KohyaNames& names, at::ScalarType dtype, std::map<std::string, std::string> metadata) {
  const auto tensors = lora_tensors(modules, layout, names, dtype);
  metadata["format"] = "pt";
  if (layout == LoraLayout::kohya)
    metadata["sshs_model_hash"] = model_hash(tensors);
  else
    metadata["lora_adapter_metadata"] = adapter_metadata(modules);
  io::write_tensors(path, tensors, metadata);
}

}  // namespace atelier::models::adapters
