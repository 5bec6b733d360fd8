#include "nn/checkpoint.h"

#include <optional>
#include <utility>

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Generator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "nn/conv.h"
#include "nn/embedding.h"
#include "nn/kept_products.h"
#include "nn/linear.h"

namespace atelier::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Block = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

/// LibTorch's default generators of the CPU and of one other device.
class RandomState {
 public:
  explicit RandomState(at::Device device) {
    keep(at::kCPU);
    if (!device.is_cpu()) keep(device);
  }
  void restore() const {
    for (const auto& [device, state] : states_) {
      at::Generator generator = at::globalContext().defaultGenerator(device);
      generator.set_state(state);
    }
  }

 private:
  void keep(at::Device device) {
    const at::Generator& generator = at::globalContext().defaultGenerator(device);
    states_.emplace_back(device, generator.get_state().clone());
  }
  std::vector<std::pair<at::Device, at::Tensor>> states_;
};

/// Autocast as it was in another moment, for as long as this lives. Without its cache, whose entries would belong to the
/// other moment's graph.
class AutocastAgain {
 public:
  AutocastAgain(c10::DeviceType type, bool enabled, at::ScalarType dtype)
      : type_(type), cached_(at::autocast::is_autocast_cache_enabled()) {
    if (!enabled && !at::autocast::is_autocast_enabled(type)) return;
    active_ = true;
    was_enabled_ = at::autocast::is_autocast_enabled(type);
    was_dtype_ = at::autocast::get_autocast_dtype(type);
    at::autocast::set_autocast_cache_enabled(false);
    at::autocast::set_autocast_dtype(type, dtype);
    at::autocast::set_autocast_enabled(type, enabled);
  }
  ~AutocastAgain() {
    if (!active_) return;
    at::autocast::set_autocast_enabled(type_, was_enabled_);
    at::autocast::set_autocast_dtype(type_, was_dtype_);
    at::autocast::set_autocast_cache_enabled(cached_);
  }
  AutocastAgain(const AutocastAgain&) = delete;
  AutocastAgain& operator=(const AutocastAgain&) = delete;

 private:
  c10::DeviceType type_;
  bool cached_, active_ = false, was_enabled_ = false;
  at::ScalarType was_dtype_ = at::kFloat;
};

/// What a block computes again, how many of the tensors are its inputs, and whether its products are kept.
struct Work {
  Block block;
  std::size_t inputs = 0;
  Keep keep = false;
};

/// What backward needs besides the tensors.
struct Kept : torch::CustomClassHolder {
  Kept(Work w, at::Device device)
      : work(std::move(w)),
        random(device),
        type(device.type()),
        autocast(at::autocast::is_autocast_enabled(device.type())),
        dtype(at::autocast::get_autocast_dtype(device.type())) {
    if (work.keep.products) products.emplace(work.keep.least_columns);
  }
  Work work;
  std::optional<KeptProducts> products;
  std::vector<bool> needed;  ///< of the inputs: those that ask for gradients
  RandomState random;
  c10::DeviceType type;
  bool autocast;
  at::ScalarType dtype;
};

/// Runs a block, its products kept or taken where there is a place for them.
at::Tensor run(const Block& block, const variable_list& inputs, std::optional<KeptProducts>& products,
               KeptProducts::Mode mode) {
  if (!products) return block(inputs);
  const KeptProducts::Scope scope(*products, mode);
  return block(inputs);
}

class Checkpointed : public torch::autograd::Function<Checkpointed> {
 public:
  /// tensors: the inputs, a scalar that requires a gradient (inputs of the first block need not), the parameters.
  static at::Tensor forward(AutogradContext* ctx, const Work& work, at::TensorList tensors) {
    const auto kept = c10::make_intrusive<Kept>(work, tensors[0].device());
    variable_list inputs;
    for (std::size_t i = 0; i < work.inputs; ++i) {
      kept->needed.push_back(tensors[i].requires_grad());
      inputs.push_back(tensors[i].detach());
    }
    const AutocastAgain same(kept->type, kept->autocast, kept->dtype);
    ctx->saved_data["kept"] = at::IValue::make_capsule(kept);
    ctx->save_for_backward(tensors.vec());
    // With gradients, so that the same code runs as in backward: kernels for inference round otherwise.
    const at::AutoGradMode grad(true);
    return run(work.block, inputs, kept->products, KeptProducts::Mode::record).detach();
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto capsule = ctx->saved_data["kept"].toCapsule();
    auto& kept = static_cast<Kept&>(*capsule);
    const auto saved = ctx->get_saved_variables();
    const std::size_t count = kept.work.inputs;
    variable_list inputs, wanted(saved.begin() + static_cast<std::ptrdiff_t>(count) + 1, saved.end());
    const std::size_t parameters = wanted.size();
    for (std::size_t i = 0; i < count; ++i) {
      inputs.push_back(saved[i].detach().requires_grad_(kept.needed[i]));
      if (kept.needed[i]) wanted.push_back(inputs.back());
    }
    const variable_list found = again(kept, inputs, wanted, gradients[0]);
    variable_list result{{}};  // of the work itself
    std::size_t next = parameters;
    for (std::size_t i = 0; i < count; ++i) result.push_back(kept.needed[i] ? found[next++] : at::Tensor());
    result.emplace_back();  // of the scalar
    result.insert(result.end(), found.begin(), found.begin() + static_cast<std::ptrdiff_t>(parameters));
    return result;
  }

 private:
  /// Computes the block again and returns the gradients of `wanted`.
  static variable_list again(Kept& kept, const variable_list& inputs, const variable_list& wanted,
                             const at::Tensor& gradient) {
    const RandomState now(inputs[0].device());
    at::Tensor y;
    {
      const AutocastAgain same(kept.type, kept.autocast, kept.dtype);
      const at::AutoGradMode grad(true);
      kept.random.restore();
      y = run(kept.work.block, inputs, kept.products, KeptProducts::Mode::replay);
      now.restore();
    }
    variable_list found;
    if (!wanted.empty() && y.requires_grad())
      found = torch::autograd::grad({y}, wanted, {gradient}, /*retain_graph=*/false, /*create_graph=*/false,
                                    /*allow_unused=*/true);
    found.resize(wanted.size());
    return found;
  }
};

void add_trained(const at::Tensor& tensor, std::vector<at::Tensor>& found) {
  if (tensor.defined() && tensor.requires_grad()) found.push_back(tensor);
}

void add_adapters(Module& module, std::vector<at::Tensor>& found) {
  const std::vector<std::shared_ptr<Adapter>>* adapters = nullptr;
  if (const auto* linear = module.as<Linear>()) adapters = &linear->adapters;
  if (const auto* conv = module.as<Conv2d>()) adapters = &conv->adapters;
  if (const auto* table = module.as<Embedding>()) adapters = &table->adapters;
  if (adapters == nullptr) return;
  for (const auto& adapter : *adapters)
    for (const at::Tensor* tensor : {&adapter->lora_a, &adapter->lora_b, &adapter->magnitude}) add_trained(*tensor, found);
}

}  // namespace

at::Tensor checkpoint(const Block& block, const std::vector<at::Tensor>& inputs,
                      const std::vector<at::Tensor>& parameters, Keep keep) {
  if (!at::GradMode::is_enabled()) return block(inputs);
  std::vector<at::Tensor> tensors = inputs;
  tensors.push_back(at::zeros({}, inputs[0].options().dtype(at::kFloat)).requires_grad_(true));
  bool asked = false;
  for (const at::Tensor& input : inputs) asked = asked || input.requires_grad();
  for (const at::Tensor& parameter : parameters)
    if (parameter.requires_grad()) tensors.push_back(parameter);
  if (!asked && tensors.size() == inputs.size() + 1) return block(inputs);
  return Checkpointed::apply(Work{block, inputs.size(), keep}, at::TensorList(tensors));
}

at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& block, const at::Tensor& x,
                      const std::vector<at::Tensor>& parameters, Keep keep) {
  if (!at::GradMode::is_enabled()) return block(x);
  const Block one = [block](const std::vector<at::Tensor>& inputs) { return block(inputs[0]); };
  return checkpoint(one, std::vector<at::Tensor>{x}, parameters, keep);
}

std::vector<at::Tensor> trained_tensors(Module& module) {
  std::vector<at::Tensor> found;
  for (const auto& parameter : module.named_parameters()) add_trained(parameter.value(), found);
  add_adapters(module, found);
  for (const auto& part : module.named_modules()) add_adapters(*part.value(), found);
  return found;
}

}  // namespace atelier::nn
