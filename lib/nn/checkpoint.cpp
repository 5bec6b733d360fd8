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

#include "nn/kept_products.h"

namespace atelier::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Block = std::function<at::Tensor(const at::Tensor&)>;

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

/// What backward needs besides the tensors.
struct Kept : torch::CustomClassHolder {
  Kept(Block b, at::Device device)
      : block(std::move(b)),
        random(device),
        type(device.type()),
        autocast(at::autocast::is_autocast_enabled(device.type())),
        dtype(at::autocast::get_autocast_dtype(device.type())) {}
  Block block;
  RandomState random;
  std::optional<KeptProducts> products;
  c10::DeviceType type;
  bool autocast;
  at::ScalarType dtype;
};

/// Runs a block, its products kept or taken where there is a place for them.
at::Tensor run(const Block& block, const at::Tensor& x, std::optional<KeptProducts>& products,
               KeptProducts::Mode mode) {
  if (!products) return block(x);
  const KeptProducts::Scope scope(*products, mode);
  return block(x);
}

class Checkpointed : public torch::autograd::Function<Checkpointed> {
 public:
  /// tensors: x, a scalar that requires a gradient (x of the first block need not), the parameters.
  static at::Tensor forward(AutogradContext* ctx, const Block& block, bool keep_products, at::TensorList tensors) {
    const at::Tensor& x = tensors[0];
    const auto kept = c10::make_intrusive<Kept>(block, x.device());
    if (keep_products) kept->products.emplace();
    ctx->saved_data["x needs"] = x.requires_grad();
    const AutocastAgain same(kept->type, kept->autocast, kept->dtype);
    ctx->saved_data["kept"] = at::IValue::make_capsule(kept);
    ctx->save_for_backward(tensors.vec());
    // With gradients, so that the same code runs as in backward: kernels for inference round otherwise.
    const at::AutoGradMode grad(true);
    return run(block, x.detach(), kept->products, KeptProducts::Mode::record).detach();
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto capsule = ctx->saved_data["kept"].toCapsule();
    auto& kept = static_cast<Kept&>(*capsule);
    const auto saved = ctx->get_saved_variables();
    const bool x_needs = ctx->saved_data["x needs"].toBool();
    const at::Tensor x = saved[0].detach().requires_grad_(x_needs);
    const RandomState now(x.device());
    at::Tensor y;
    {
      const AutocastAgain same(kept.type, kept.autocast, kept.dtype);
      const at::AutoGradMode grad(true);
      kept.random.restore();
      y = run(kept.block, x, kept.products, KeptProducts::Mode::replay);
      now.restore();
    }
    variable_list wanted(saved.begin() + 2, saved.end());
    if (x_needs) wanted.push_back(x);
    variable_list found;
    if (!wanted.empty() && y.requires_grad())
      found = torch::autograd::grad({y}, wanted, {gradients[0]}, /*retain_graph=*/false, /*create_graph=*/false,
                                    /*allow_unused=*/true);
    found.resize(wanted.size());
    variable_list result{{}, {}, x_needs ? found.back() : at::Tensor(), {}};  // the block, the flag, x, the scalar
    result.insert(result.end(), found.begin(), found.begin() + static_cast<std::ptrdiff_t>(saved.size()) - 2);
    return result;
  }
};

}  // namespace

at::Tensor checkpoint(const Block& block, const at::Tensor& x, const std::vector<at::Tensor>& parameters,
                      bool keep_products) {
  if (!at::GradMode::is_enabled()) return block(x);
  std::vector<at::Tensor> tensors{x, at::zeros({}, x.options().dtype(at::kFloat)).requires_grad_(true)};
  for (const at::Tensor& parameter : parameters)
    if (parameter.requires_grad()) tensors.push_back(parameter);
  return Checkpointed::apply(block, keep_products, at::TensorList(tensors));
}

}  // namespace atelier::nn
