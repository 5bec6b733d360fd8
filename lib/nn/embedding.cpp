#include "nn/embedding.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/scalar_tensor.h>

#include "nn/linear.h"

namespace atelier::nn {

Embedding::Embedding(std::int64_t count, std::int64_t size, double factor) : factor_(factor) {
  weight = register_parameter("weight", placeholder({count, size}), /*requires_grad=*/false);
}

at::Tensor Embedding::forward(const at::Tensor& ids) const {
  auto y = at::embedding(weight, ids);  // (..., size)
  if (factor_ != 1) y = y * at::scalar_tensor(factor_, y.options());
  for (const auto& adapter : adapters)
    if (adapter->active) y = adapted(*adapter, ids, std::move(y));
  return y.to(weight.scalar_type());
}

at::Tensor Embedding::adapted(const Adapter& adapter, const at::Tensor& ids, at::Tensor y) const {
  auto row = at::embedding(adapter.lora_a.t(), ids);  // (..., r)
  auto added = nn::linear(row, adapter.lora_b, {});   // (..., size)
  if (!adapter.magnitude.defined()) return y + added * adapter.scale * factor_;
  const auto factor = dora_factor(adapter, [&] { return adapted_norms(adapter, weight, /*embedding=*/true); });
  return factor * y + factor * added * adapter.scale * factor_;
}

}  // namespace atelier::nn
