#include "nn/kept_products.h"

#include <memory>
#include <stdexcept>
#include <utility>

#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/matmul.h>
#include <torch/csrc/autograd/custom_function.h>

namespace atelier::nn {
namespace {

thread_local KeptProducts* active = nullptr;

using torch::autograd::AutogradContext;
using Dense = std::function<at::Tensor(at::ScalarType)>;

/// What an autograd node can hold on to.
struct HeldWeight : torch::CustomClassHolder {
  HeldWeight(Dense d, at::ScalarType t) : dense(std::move(d)), input_type(t) {}
  Dense dense;
  at::ScalarType input_type;
};

/// The known result of a product, with the product's gradient.
class Known : public torch::autograd::Function<Known> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& y, const Dense& dense) {
    context->saved_data["weight"] = c10::IValue::make_capsule(c10::make_intrusive<HeldWeight>(dense, x.scalar_type()));
    return y.detach();
  }

  static torch::autograd::variable_list backward(AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto held = c10::static_intrusive_pointer_cast<HeldWeight>(context->saved_data["weight"].toCapsule());
    const at::Tensor& dy = gradients[0];  // (..., out)
    return {at::matmul(dy, held->dense(dy.scalar_type())).to(held->input_type), at::Tensor(), at::Tensor()};
  }
};

/// The known result of an attention, with the attention's gradients.
class KnownAttention : public torch::autograd::Function<KnownAttention> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& y, const at::Tensor& sums, bool causal) {
    context->save_for_backward({q, k, v, y, sums});
    context->saved_data["causal"] = causal;
    return y.detach();
  }

  static torch::autograd::variable_list backward(AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        gradients[0], saved[0], saved[1], saved[2], saved[3], saved[4], /*dropout_p=*/0.0,
        context->saved_data["causal"].toBool());
    return {dq, dk, dv, {}, {}, {}};
  }
};

}  // namespace

KeptProducts::Scope::Scope(KeptProducts& products, Mode mode) : before_(std::exchange(active, &products)) {
  products.mode_ = mode;
  products.next_ = 0;
}

KeptProducts::Scope::~Scope() { active = before_; }

KeptProducts* KeptProducts::current() { return active; }

at::Tensor KeptProducts::product(const at::Tensor& x, const std::function<at::Tensor()>& compute, Dense dense) {
  if (mode_ == Mode::record) {
    auto y = compute();
    results_.push_back(y.detach());
    return y;
  }
  const at::Tensor y = take();
  return x.requires_grad() ? Known::apply(x, y, dense) : y;
}

at::Tensor KeptProducts::attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal) {
  if (mode_ == Mode::record) {
    auto [y, sums] = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, /*dropout_p=*/0.0, causal);
    results_.push_back(y.detach());
    results_.push_back(sums.detach());
    return y;
  }
  const at::Tensor y = take(), sums = take();
  return q.requires_grad() || k.requires_grad() || v.requires_grad() ? KnownAttention::apply(q, k, v, y, sums, causal) : y;
}

at::Tensor KeptProducts::take() {
  if (next_ == results_.size() || !results_[next_].defined())
    throw std::logic_error("a recomputed block has other products than its first run");
  return std::exchange(results_[next_++], at::Tensor());
}

}  // namespace atelier::nn
