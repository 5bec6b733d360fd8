#include "nn/kept_products.h"

#include <memory>
#include <stdexcept>
#include <utility>

#include <torch/csrc/autograd/custom_function.h>

#include "nn/attention_gradients.h"

namespace atelier::nn {
namespace {

thread_local KeptProducts* active = nullptr;

using torch::autograd::AutogradContext;

/// What an autograd node can hold on to.
struct HeldGradient : torch::CustomClassHolder {
  HeldGradient(InputGradient g, at::ScalarType t) : gradient(std::move(g)), input_type(t) {}
  InputGradient gradient;
  at::ScalarType input_type;
};

/// The known result of a product, with the product's gradient.
class Known : public torch::autograd::Function<Known> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& y, const InputGradient& gradient) {
    context->saved_data["gradient"] = c10::IValue::make_capsule(c10::make_intrusive<HeldGradient>(gradient, x.scalar_type()));
    return y.detach();
  }

  static torch::autograd::variable_list backward(AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto held = c10::static_intrusive_pointer_cast<HeldGradient>(context->saved_data["gradient"].toCapsule());
    return {held->gradient(gradients[0]).to(held->input_type), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

KeptProducts::Scope::Scope(KeptProducts& products, Mode mode) : before_(std::exchange(active, &products)) {
  products.mode_ = mode;
  products.next_ = 0;
}

KeptProducts::Scope::~Scope() { active = before_; }

KeptProducts* KeptProducts::current() { return active; }

at::Tensor KeptProducts::product(const at::Tensor& x, const std::function<at::Tensor()>& compute, const InputGradient& gradient) {
  if (mode_ == Mode::record) {
    auto y = compute();
    results_.push_back(y.detach());
    return y;
  }
  return known_product(x, take(), gradient);
}

at::Tensor KeptProducts::attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, bool causal) {
  if (mode_ == Mode::record) {
    auto [y, sums] = attention_with_sums(q, k, v, heads, causal);
    results_.push_back(y);
    results_.push_back(sums);
    return y;
  }
  const at::Tensor y = take(), sums = take();
  return with_attention_gradients(q, k, v, {y, sums}, heads, causal);
}

at::Tensor KeptProducts::take() {
  if (next_ == results_.size() || !results_[next_].defined())
    throw std::logic_error("a recomputed block has other products than its first run");
  return std::exchange(results_[next_++], at::Tensor());
}

at::Tensor known_product(const at::Tensor& x, const at::Tensor& y, const InputGradient& gradient) {
  return x.requires_grad() ? Known::apply(x, y, gradient) : y;
}

}  // namespace atelier::nn
