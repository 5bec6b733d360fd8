#include "nn/linear.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>

#include "nn/frozen.h"
#include "nn/kept_products.h"
#include "nn/parallel.h"

namespace atelier::nn {
namespace {

at::Tensor linear_with_graph(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!at::GradMode::is_enabled() || weight.requires_grad() || (bias.defined() && bias.requires_grad()))
    return at::linear(x, widened(weight, x), bias);
  const auto compute = [&] { return frozen_product(x, weight, bias); };
  const auto gradient = [weight](const at::Tensor& dy) { return frozen_gradient(dy, weight); };
  auto* const kept = KeptProducts::current();
  return kept != nullptr && kept->keeps(weight.size(1)) ? kept->product(x, compute, gradient) : known_product(x, compute(), gradient);
}

}  // namespace

Linear::Linear(std::int64_t in, std::int64_t out, bool with_bias) {
  weight = register_parameter("weight", placeholder({out, in}), /*requires_grad=*/false);
  if (with_bias) bias = register_parameter("bias", placeholder({out}), /*requires_grad=*/false);
}

Linear::Linear(const at::Tensor& shared_weight) : weight(shared_weight) {}

at::Tensor Linear::dense_weight(at::ScalarType dtype) const {
  return quantised_ ? quantised_->dequantise(dtype) : weight;
}

void Linear::quantise(std::shared_ptr<const QuantisedWeight> quantised) {
  quantised_ = std::move(quantised);
  weight.set_data(at::empty({}, weight.scalar_type()).expand({quantised_->out(), quantised_->in()}));
}

at::Tensor Linear::forward(const at::Tensor& x, bool f32_result) const {
  if (uses_packed()) {
    auto y = packed_linear(x, packed_weight(x), bias);
    return f32_result ? y.to(at::kFloat) : y;
  }
  auto y = quantised_ ? nn::linear(x, quantised_, bias, f32_result) : nn::linear(x, weight, bias, f32_result);
  if (adapters.empty()) return y;
  const auto dtype = y.scalar_type();
  for (const auto& adapter : adapters)
    if (adapter->active) y = adapted(*adapter, x, std::move(y));
  return y.to(dtype);
}

at::Tensor Linear::forward_plus(const at::Tensor& x, const at::Tensor& summand) const {
  if (uses_packed()) return packed_linear(x, packed_weight(x), bias, summand);
  const auto y = forward(x);
  return at::GradMode::is_enabled() ? y + summand : y.add_(summand);
}

bool Linear::uses_packed() const {
  return packed.wanted() && !quantised_ && adapters.empty() && !at::GradMode::is_enabled();
}

const at::Tensor& Linear::packed_weight(const at::Tensor& x) const {
  const std::int64_t rows = x.numel() / std::max<std::int64_t>(1, x.size(-1));
  return packed.of(weight, [rows](const at::Tensor& w) { return pack_linear(w, rows); });
}

at::Tensor Linear::adapted(const Adapter& adapter, const at::Tensor& x, at::Tensor y) const {
  // Under autocast the product casts both sides itself.
  const bool autocast = at::autocast::is_autocast_enabled(x.device().type());
  const auto input = dropped(adapter, autocast ? x : x.to(adapter.lora_a.scalar_type()));
  auto added = nn::linear(nn::linear(input, adapter.lora_a, {}), adapter.lora_b, {});  // (..., out)
  // Products and sums are rounded each for itself: a fused one would depend on an element's place in a vector register.
  added = at::GradMode::is_enabled() ? added * adapter.scale : added.mul_(adapter.scale);
  if (!adapter.magnitude.defined()) return y + added;
  const auto factor =
      dora_factor(adapter, [&] { return adapted_norms(adapter, dense_weight(x.scalar_type()), /*embedding=*/false); });
  if (!adapter.training || adapter.dropout <= 0) {
    const auto own = bias.defined() ? y - bias : y;
    return y + (factor - 1) * own + factor * added;
  }
  // With dropout the base's share comes of the same dropped input.
  const auto dropped_x = input.to(x.scalar_type());
  const auto own = quantised_ ? nn::linear(dropped_x, quantised_, {}, true) : nn::linear(dropped_x, weight, {}, true);
  return y + (factor - 1) * own + factor * added;
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool f32_result) {
  const std::int64_t in = weight.size(1), out = weight.size(0);
  const std::int64_t rows = in == 0 ? 0 : x.numel() / in;
  if (at::GradMode::is_enabled() || rows > max_invariant_rows || !has_kernels(x) ||
      x.scalar_type() != weight.scalar_type() || !weight.is_contiguous()) {
    auto y = linear_with_graph(x, weight, bias);
    return f32_result ? y.to(at::kFloat) : y;
  }
  const auto input = x.contiguous();
  auto shape = x.sizes().vec();
  shape.back() = out;
  auto y = at::empty(shape, f32_result ? x.options().dtype(at::kFloat) : x.options());
  const kernels::LinearArgs args{.type = kernel_type(x),
                                 .x = input.const_data_ptr(),
                                 .w = weight.const_data_ptr(),
                                 .bias = bias.defined() ? bias.const_data_ptr() : nullptr,
                                 .y = y.mutable_data_ptr(),
                                 .y_f32 = f32_result || x.scalar_type() == at::kFloat,
                                 .rows = rows,
                                 .in = in,
                                 .out = out};
  parallel(out, in * rows, [&](std::int64_t begin, std::int64_t end) { kernels::table().linear(args, begin, end); });
  return y;
}

}  // namespace atelier::nn
