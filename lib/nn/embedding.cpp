#include "nn/embedding.h"

#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>

#include "nn/linear.h"

namespace atelier::nn {

Embedding::Embedding(std::int64_t count, std::int64_t size, double factor) : factor_(factor) {
  weight = register_parameter("weight", placeholder({count, size}), /*requires_grad=*/false);
}

void Embedding::quantise(std::shared_ptr<const QuantisedWeight> quantised, at::ScalarType dtype) {
  quantised_ = std::move(quantised);
  weight.set_data(at::empty({}, dtype).expand({quantised_->out(), quantised_->in()}));
}

at::Tensor Embedding::dense_weight(at::ScalarType dtype) const {
  return quantised_ ? quantised_->dequantise(dtype) : weight;
}

at::Tensor Embedding::look_up(const at::Tensor& ids) const {
  if (!quantised_) return at::embedding(weight, ids);
  const auto rows = ids.to(at::kCPU, at::kLong).contiguous();
  auto shape = ids.sizes().vec();
  shape.push_back(quantised_->in());
  auto y = at::empty({rows.numel(), quantised_->in()}, weight.scalar_type());
  const std::int64_t* const id = rows.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < rows.numel(); ++i)
    y.select(0, i).copy_(quantised_->dequantise(weight.scalar_type(), id[i], id[i] + 1).squeeze(0));
  return y.view(shape).to(ids.device());
}

at::Tensor Embedding::forward(const at::Tensor& ids) const {
  auto y = look_up(ids);  // (..., size)
  if (factor_ != 1) y = y * at::scalar_tensor(factor_, y.options());
  for (const auto& adapter : adapters)
    if (adapter->active) y = adapted(*adapter, ids, std::move(y));
  return y.to(weight.scalar_type());
}

at::Tensor Embedding::adapted(const Adapter& adapter, const at::Tensor& ids, at::Tensor y) const {
  auto row = at::embedding(adapter.lora_a.t(), ids);  // (..., r)
  auto added = nn::linear(row, adapter.lora_b, {});   // (..., size)
  if (!adapter.magnitude.defined()) return y + added * adapter.scale * factor_;
  const auto factor = dora_factor(adapter, [&] { return adapted_norms(adapter, dense_weight(weight.scalar_type()), /*embedding=*/true); });
  return factor * y + factor * added * adapter.scale * factor_;
}

}  // namespace atelier::nn
