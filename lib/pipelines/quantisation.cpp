#include "pipelines/quantisation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"
#include "nn/gptq.h"
#include "nn/linear.h"
#include "pipelines/prefill.h"

namespace atelier::pipelines {
namespace {

using base::Error;
using base::ExitCode;
using models::gemma::CausalLm;

/// Tokens that go through a layer at once while calibrating.
constexpr std::int64_t tokens_at_once = 2048;

/// The tied embedding serves twice, as the head whose inputs were seen and as the table that text is looked up in, where an error
/// counts alike in every direction: moments of the head's inputs are damped by this share of their mean.
constexpr double tied_damping = 0.3;

/// Windows that go through the layers together.
struct Part {
  at::Tensor x;  ///< (N, hidden)
  std::vector<std::int64_t> lengths;
};

std::vector<Part> embedded_parts(const CausalLm& network, const TextWindows& windows) {
  std::vector<Part> parts;
  std::vector<std::int64_t> tokens, lengths;
  const auto finish = [&] {
    if (tokens.empty()) return;
    parts.push_back({network.embed(at::tensor(tokens, at::kLong)), std::exchange(lengths, {})});
    tokens.clear();
  };
  for (const auto& window : windows) {
    if (static_cast<std::int64_t>(tokens.size() + window.size()) > tokens_at_once) finish();
    tokens.insert(tokens.end(), window.begin(), window.end());
    lengths.push_back(static_cast<std::int64_t>(window.size()));
  }
  finish();
  return parts;
}

/// Linear maps of one layer that have the same input.
struct Group {
  std::vector<const char*> names;
  nn::InputMoments moments;
};

std::array<Group, 4> groups_of_layer() {
  return {{{{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, {}},
           {{"self_attn.o_proj"}, {}},
           {{"mlp.gate_proj", "mlp.up_proj"}, {}},
           {{"mlp.down_proj"}, {}}}};
}

nn::Linear& linear_at(const nn::Module::Modules& modules, const std::string& path) {
  return *modules[path]->as<nn::Linear>();
}

void quantise_layer(const CausalLm& network, std::size_t layer, const nn::GroupQuantisation& quantisation, std::vector<Part>& parts) {
  const auto modules = network.named_modules();
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  auto groups = groups_of_layer();
  std::vector<std::pair<nn::Linear*, at::Tensor>> dense;  // in the order of the groups
  for (Group& group : groups)
    for (const char* name : group.names) {
      nn::Linear& linear = linear_at(modules, prefix + name);
      // Quantising replaces the contents of the module's tensor: this is another one with the same.
      dense.emplace_back(&linear, linear.weight.detach());
      linear.quantise(std::make_shared<nn::ObservedWeight>(dense.back().second,
                                                           name == group.names.front() ? &group.moments : nullptr));
    }
  for (const Part& part : parts) network.run_layer(layer, part.x, part.lengths);
  std::size_t next = 0;
  for (Group& group : groups) {
    const at::Tensor moments = group.moments.mean();
    for (const char* name : group.names) {
      auto& [linear, weight] = dense[next++];
      linear->quantise(nn::quantise_gptq(weight, quantisation, moments, prefix + name));
      weight.reset();
    }
  }
  for (Part& part : parts) part.x = network.run_layer(layer, part.x, part.lengths);
}

void quantise_ends(CausalLm& network, const nn::GroupQuantisation& quantisation, const std::vector<Part>& parts) {
  nn::InputMoments moments;
  for (const Part& part : parts) moments.add(network.last_norm(part.x));
  const auto modules = network.named_modules();
  auto& table = *modules["model.embed_tokens"]->as<nn::Embedding>();
  const at::ScalarType dtype = network.dtype();
  if (network.config().tied_head) {
    table.quantise(
        nn::quantise_gptq(table.weight.detach(), quantisation, moments.mean(), "model.embed_tokens", tied_damping), dtype);
    network.share_quantised();
    return;
  }
  auto& head = linear_at(modules, "lm_head");
  head.quantise(nn::quantise_gptq(head.weight.detach(), quantisation, moments.mean(), "lm_head"));
  table.quantise(nn::GroupQuantisedWeight::quantise(table.weight.detach(), quantisation, "model.embed_tokens"), dtype);
}

}  // namespace

TextWindows text_windows(const TextModel& model, const std::vector<std::string>& texts, std::int64_t length,
                         std::int64_t most, const std::string& what) {
  TextWindows windows;
  bool enough = false;
  for (const std::string& text : texts) {
    const auto tokens = model.tokenizer->encode(text, /*trusted=*/true);
    enough = enough || tokens.size() >= 2;
    std::int64_t left = std::min<std::int64_t>(most, static_cast<std::int64_t>(tokens.size()));
    most -= left;
    for (auto from = tokens.begin(); left > 0;) {
      const std::int64_t count = std::min(left, length - 1);
      auto& window = windows.emplace_back(1, model.bos);
      window.insert(window.end(), from, from + count);
      from += count;
      left -= count;
    }
  }
  if (!enough) throw Error(ExitCode::data, fmt::format("{}: fewer than two tokens of text", what));
  return windows;
}

void quantise_calibrated(CausalLm& network, const nn::GroupQuantisation& quantisation, const TextWindows& windows,
                         const std::function<void(std::int64_t)>& after_layer) {
  const at::NoGradGuard no_grad;
  auto parts = embedded_parts(network, windows);
  const std::int64_t layers = network.config().layers;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    base::throw_if_stopped();
    quantise_layer(network, static_cast<std::size_t>(layer), quantisation, parts);
    if (after_layer) after_layer(layer + 1);
  }
  quantise_ends(network, quantisation, parts);
  if (after_layer) after_layer(layers + 1);
}

Divergence compare_models(const TextModel& model, const TextModel& reference, const TextWindows& windows) {
  const c10::InferenceMode inference;
  Divergence sum;
  double surprise = 0, reference_surprise = 0;
  const auto hidden_of = [](const TextModel& m, const std::vector<text::TokenId>& window) {
    auto cache = m.network->new_cache();
    std::vector<at::Tensor> parts;
    prefill(m, window, cache, [&](const at::Tensor& hidden, std::int64_t) { parts.push_back(hidden); });
    return at::cat(parts);  // (n, hidden)
  };
  for (const auto& window : windows) {
    const auto own = hidden_of(model, window), other = hidden_of(reference, window);
    const auto predicted = static_cast<std::int64_t>(window.size()) - 1;
    for (std::int64_t i = 0; i < predicted; i += nn::max_invariant_rows) {
      base::throw_if_stopped();
      const std::int64_t rows = std::min(nn::max_invariant_rows, predicted - i);
      const auto q = at::log_softmax(model.network->logits(own.narrow(0, i, rows)), -1);
      const auto p = at::log_softmax(reference.network->logits(other.narrow(0, i, rows)), -1);  // (rows, vocab)
      if (!at::isfinite(q).all().item<bool>() || !at::isfinite(p).all().item<bool>())
        throw Error(ExitCode::condition, "the logits are not finite: the weights are damaged, or overflow");
      const auto targets =
          at::tensor(std::vector<std::int64_t>(window.begin() + i + 1, window.begin() + i + 1 + rows), at::kLong)
              .unsqueeze(1);
      sum.kl += (p.exp() * (p - q)).sum(at::kDouble).item<double>();
      surprise -= q.gather(1, targets).sum(at::kDouble).item<double>();
      reference_surprise -= p.gather(1, targets).sum(at::kDouble).item<double>();
      sum.same_top += p.argmax(-1).eq(q.argmax(-1)).sum().item<double>();
    }
    sum.tokens += predicted;
  }
  const auto count = static_cast<double>(std::max<std::int64_t>(1, sum.tokens));
  sum.kl /= count;
  sum.same_top /= count;
  sum.perplexity = std::exp(surprise / count);
  sum.reference_perplexity = std::exp(reference_surprise / count);
  return sum;
}

std::vector<FolderTensor> quantised_tensors(const CausalLm& network) {
  std::vector<FolderTensor> tensors;
  std::vector<std::string> packed;
  const auto list = [&](const std::string& name, const at::Tensor& tensor) {
    tensors.push_back({name, tensor.sizes().vec(), tensor.scalar_type(), [tensor] { return tensor; }});
  };
  for (const auto& entry : network.named_modules()) {
    if (entry.key() == "lm_head" && network.config().tied_head) continue;
    const auto* linear = entry.value()->as<nn::Linear>();
    const auto* table = entry.value()->as<nn::Embedding>();
    const auto quantised = linear ? linear->quantised() : table ? table->quantised() : nullptr;
    const auto weight = std::dynamic_pointer_cast<const nn::GroupQuantisedWeight>(quantised);
    if (!weight) continue;
    const std::string name = entry.key() + ".weight";
    packed.push_back(name);
    list(name + nn::GroupQuantisedWeight::codes_suffix, weight->parts().codes);
    list(name + nn::GroupQuantisedWeight::scales_suffix, weight->parts().scales);
    list(name + nn::GroupQuantisedWeight::units_suffix, weight->parts().units);
  }
  for (const auto& entry : network.named_parameters())
    if (std::find(packed.begin(), packed.end(), entry.key()) == packed.end()) list(entry.key(), entry.value().detach());
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return tensors;
}

}  // namespace atelier::pipelines
