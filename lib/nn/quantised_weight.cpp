#include "nn/quantised_weight.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <torch/csrc/autograd/custom_function.h>

#include "nn/kept_products.h"
#include "nn/linear.h"
#include "nn/parallel.h"
#include "nn/product_weight.h"

namespace atelier::nn {
namespace {

using Weight = std::shared_ptr<const QuantisedWeight>;
using torch::autograd::AutogradContext;

/// Rows that are dense at once in a decoding step: they stay in a core's own cache.
constexpr std::int64_t dense_rows = 32;

/// What an autograd node can hold on to.
struct Held : torch::CustomClassHolder {
  explicit Held(Weight w) : weight(std::move(w)) {}
  Weight weight;
};

/// x W^T whose backward pass makes W dense anew.
class Product : public torch::autograd::Function<Product> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const Weight& weight) {
    context->saved_data["weight"] = c10::IValue::make_capsule(c10::make_intrusive<Held>(weight));
    return at::linear(x, weight->dequantise(x.scalar_type()));
  }

  static torch::autograd::variable_list backward(AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto held = c10::static_intrusive_pointer_cast<Held>(context->saved_data["weight"].toCapsule());
    const at::Tensor& dy = gradients[0];  // (..., out)
    return {at::matmul(dy, held->weight->dequantise(dy.scalar_type())), at::Tensor()};
  }
};

/// By blocks of rows of W, each row of x for itself (kernels::Table::linear).
at::Tensor by_blocks(const at::Tensor& x, const QuantisedWeight& weight, const at::Tensor& bias, bool f32_result) {
  const auto input = x.contiguous();
  const std::int64_t in = weight.in(), out = weight.out(), rows = x.numel() / in;
  auto shape = x.sizes().vec();
  shape.back() = out;
  auto y = at::empty(shape, f32_result ? x.options().dtype(at::kFloat) : x.options());
  const auto size = static_cast<std::int64_t>(y.element_size());
  auto* const result = static_cast<std::byte*>(y.mutable_data_ptr());
  const auto* const biases = bias.defined() ? static_cast<const std::byte*>(bias.const_data_ptr()) : nullptr;
  parallel(out, in * rows, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t begin = first; begin < last; begin += dense_rows) {
      const std::int64_t count = std::min(dense_rows, last - begin);
      const auto dense = weight.dequantise(x.scalar_type(), begin, begin + count);
      const auto part = at::empty({rows, count}, y.options());
      kernels::table().linear(
          {.type = kernel_type(x),
           .x = input.const_data_ptr(),
           .w = dense.const_data_ptr(),
           .bias = biases ? biases + begin * static_cast<std::int64_t>(bias.element_size()) : nullptr,
           .y = part.mutable_data_ptr(),
           .y_f32 = y.scalar_type() == at::kFloat,
           .rows = rows,
           .in = in,
           .out = count},
          0, count);
      for (std::int64_t row = 0; row < rows; ++row)
        std::memcpy(result + (row * out + begin) * size,
                    static_cast<const std::byte*>(part.const_data_ptr()) + row * count * size,
                    static_cast<std::size_t>(count * size));
    }
  });
  return y;
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const Weight& weight, const at::Tensor& bias, bool f32_result) {
  const std::int64_t rows = weight->in() == 0 ? 0 : x.numel() / weight->in();
  if (const auto* own = dynamic_cast<const ProductWeight*>(weight.get()); own && !at::GradMode::is_enabled() && rows > 0)
    if (auto y = own->product(x, bias, f32_result); y.defined()) return y;
  const bool plain = at::GradMode::is_enabled() || rows > max_invariant_rows || !has_kernels(x) ||
                     (bias.defined() && bias.scalar_type() != x.scalar_type());
  if (!plain) return by_blocks(x, *weight, bias, f32_result);
  at::Tensor y;
  if (!at::GradMode::is_enabled()) {
    y = at::linear(x, weight->dequantise(x.scalar_type()), bias);
  } else {
    const auto compute = [&] { return Product::apply(x, weight); };
    auto* const kept = KeptProducts::current();
    y = kept == nullptr
            ? compute()
            : kept->product(x, compute, [weight](const at::Tensor& dy) { return at::matmul(dy, weight->dequantise(dy.scalar_type())); });
    if (bias.defined()) y = y + bias;
  }
  return f32_result ? y.to(at::kFloat) : y;
}

}  // namespace atelier::nn
