#include "models/adapters/image_lora.h"

#include <cmath>
#include <functional>
#include <numeric>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "base/error.h"
#include "nn/conv.h"
#include "nn/linear.h"

namespace atelier::models::adapters {
namespace {

using base::Error;
using base::ExitCode;

bool has(std::string_view path, std::string_view part) { return path.find(part) != std::string_view::npos; }

bool ends(std::string_view path, std::initializer_list<std::string_view> endings) {
  for (const auto& ending : endings)
    if (path.ends_with(ending)) return true;
  return false;
}

bool is_attention(std::string_view path) {
  if (has(path, ".self_attn.")) return ends(path, {".q_proj", ".k_proj", ".v_proj", ".out_proj"});
  return (has(path, ".attn1.") || has(path, ".attn2.")) && ends(path, {".to_q", ".to_k", ".to_v", ".to_out.0"});
}

bool is_mlp(std::string_view path) {
  if (has(path, ".mlp.")) return ends(path, {".fc1", ".fc2"});
  return ends(path, {".ff.net.0.proj", ".ff.net.2"}) || (has(path, "attentions.") && ends(path, {".proj_in", ".proj_out"}));
}

bool is_in_block(std::string_view path) {
  return path.starts_with("down_blocks.") || path.starts_with("mid_block.") || path.starts_with("up_blocks.");
}

/// Rank of a layer's adapter; 0: it gets none.
std::int64_t rank_of(std::string_view path, bool wide, const LoraOptions& o) {
  if (wide) {  // a convolution over several pixels
    if (!is_in_block(path)) return 0;
    return o.conv_rank > 0 ? o.conv_rank : o.targets == LoraTargets::all ? o.rank : 0;
  }
  const bool chosen = is_attention(path) || (o.targets != LoraTargets::attention && is_mlp(path)) ||
                      (o.targets == LoraTargets::all && is_in_block(path));
  return chosen ? o.rank : 0;
}

std::shared_ptr<nn::Adapter> new_adapter(const LoraLayer& layer, const LoraOptions& o,
                                         const at::Generator& generator) {
  auto* linear = layer.layer->as<nn::Linear>();
  auto* conv = layer.layer->as<nn::Conv2d>();
  const at::Tensor& weight = linear ? linear->weight : conv->weight;
  const auto options = at::TensorOptions().dtype(at::kFloat).device(weight.device());
  const auto down = layer.down_shape();
  const auto fan_in = std::accumulate(down.begin() + 1, down.end(), std::int64_t{1}, std::multiplies<>());
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));  // kaiming_uniform_ with a = sqrt(5)
  auto adapter = std::make_shared<nn::Adapter>();
  // Drawn on the CPU, so that it is the same wherever it is trained.
  adapter->lora_a = at::empty(down, at::kFloat).uniform_(-bound, bound, generator).to(weight.device());
  adapter->lora_b = at::zeros(layer.up_shape(), options);
  adapter->scale = o.alpha / static_cast<double>(o.rank);
  adapter->dropout = o.dropout;
  if (o.dora) adapter->magnitude = nn::adapted_norms(*adapter, weight, /*embedding=*/false);
  for (at::Tensor* tensor : {&adapter->lora_a, &adapter->lora_b, &adapter->magnitude})
    if (tensor->defined()) tensor->set_requires_grad(true);
  (linear ? linear->adapters : conv->adapters).push_back(adapter);
  return adapter;
}

}  // namespace

LoraTargets lora_targets(std::string_view name) {
  if (name == "attn") return LoraTargets::attention;
  if (name == "attn-mlp") return LoraTargets::attention_mlp;
  if (name == "all") return LoraTargets::all;
  throw Error(ExitCode::usage, fmt::format("unknown targets \"{}\"", name), "one of attn, attn-mlp, all");
}

std::vector<std::int64_t> LoraLayer::down_shape() const {
  std::vector<std::int64_t> down = shape;
  down[0] = rank;
  return down;
}

std::vector<std::int64_t> LoraLayer::up_shape() const {
  std::vector<std::int64_t> up(shape.size(), 1);
  up[0] = shape[0];
  up[1] = rank;
  return up;
}

std::int64_t LoraLayer::numbers(bool dora) const {
  const auto inner = std::accumulate(shape.begin() + 1, shape.end(), std::int64_t{1}, std::multiplies<>());
  return rank * (inner + shape[0]) + (dora ? shape[0] : 0);
}

std::vector<LoraLayer> lora_layers(const std::vector<Part>& parts, const LoraOptions& options) {
  std::vector<LoraLayer> found;
  for (const Part& part : parts) {
    for (const auto& entry : part.module->named_modules()) {
      auto* linear = entry.value()->as<nn::Linear>();
      auto* conv = entry.value()->as<nn::Conv2d>();
      if (!linear && !conv) continue;
      const auto shape = (linear ? linear->weight : conv->weight).sizes().vec();
      const bool wide = conv && shape[2] * shape[3] > 1;
      const std::int64_t rank = rank_of(entry.key(), wide, options);
      if (rank > 0)
        found.push_back(
            {.part = part.name, .path = entry.key(), .layer = entry.value().get(), .shape = shape, .rank = rank});
    }
  }
  return found;
}

std::vector<std::pair<std::string, at::Tensor>> ImageLora::tensors() const {
  std::vector<std::pair<std::string, at::Tensor>> list;
  for (const Target& target : targets) {
    const std::string start = target.part + "." + target.path;
    list.emplace_back(start + ".lora_A.weight", target.adapter->lora_a);
    list.emplace_back(start + ".lora_B.weight", target.adapter->lora_b);
    if (target.adapter->magnitude.defined())
      list.emplace_back(start + ".lora_magnitude_vector", target.adapter->magnitude);
  }
  return list;
}

std::vector<LoraModule> ImageLora::modules() const {
  std::vector<LoraModule> list;
  for (const Target& target : targets)
    list.push_back({.part = target.part,
                    .path = target.path,
                    .down = target.adapter->lora_a,
                    .up = target.adapter->lora_b,
                    .magnitude = target.adapter->magnitude,
                    .alpha = target.adapter->scale * static_cast<double>(target.adapter->rank())});
  return list;
}

void ImageLora::set_training(bool training) const {
  for (const Target& target : targets) target.adapter->training = training;
}

ImageLora attach_lora(const std::vector<Part>& parts, const LoraOptions& options, const at::Generator& generator) {
  const at::NoGradGuard no_grad;
  ImageLora lora{.options = options, .targets = {}};
  for (const LoraLayer& layer : lora_layers(parts, options))
    lora.targets.push_back({.part = layer.part,
                            .path = layer.path,
                            .adapter = new_adapter(layer, options, generator),
                            .conv = layer.shape.size() == 4});
  if (lora.targets.empty()) throw Error(ExitCode::usage, "the adapter has no layer: nothing would be trained");
  return lora;
}

}  // namespace atelier::models::adapters
