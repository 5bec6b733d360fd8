#include "nn/kept_products.h"

#include <memory>
#include <stdexcept>
#include <utility>

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
  if (next_ == results_.size() || !results_[next_].defined())
    throw std::logic_error("a recomputed block has other products than its first run");
  const auto y = std::exchange(results_[next_++], at::Tensor());
  return x.requires_grad() ? Known::apply(x, y, dense) : y;
}

}  // namespace atelier::nn
