#include "nn/adapter.h"

#include <algorithm>
#include <optional>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace atelier::nn {
namespace {

/// Elements of a weight that are worked on at once.
constexpr std::int64_t block_elements = 1 << 20;

/// Sums of weights are f32 sums, also where the model's own products are to run in bf16.
using WithoutAutocast = c10::impl::ExcludeDispatchKeyGuard;

/// Changes whenever a tensor's contents do: its data's place and the number of writes to it.
std::uint64_t state_of(const at::Tensor& t) {
  if (!t.defined()) return 0;
  const auto writes = t.is_inference() ? 0u : t._version();
  return reinterpret_cast<std::uintptr_t>(t.const_data_ptr()) * 31 + static_cast<std::uint64_t>(writes);
}

}  // namespace

at::Tensor dropped(const Adapter& adapter, const at::Tensor& x) {
  if (!adapter.training || adapter.dropout <= 0) return x;
  const double kept = 1 - adapter.dropout;
  std::optional<at::Generator> generator;
  if (adapter.generator.defined()) generator = adapter.generator;
  return x * at::empty_like(x, x.options().requires_grad(false)).bernoulli_(kept, generator).div_(kept);
}

at::Tensor dora_factor(const Adapter& a, const std::function<at::Tensor()>& norms) {
  std::uint64_t key = state_of(a.lora_a) * 1000003 + state_of(a.lora_b);
  key = key * 1000003 + std::hash<double>()(a.scale);
  if (!a.norms_.defined() || key != a.norms_key_) {
    const at::NoGradGuard no_grad;
    a.norms_ = norms();
    a.norms_key_ = key;
  }
  return a.magnitude / a.norms_;
}

at::Tensor delta_weight(const Adapter& a, bool embedding) {
  const WithoutAutocast f32(c10::autocast_dispatch_keyset);
  const auto down = a.lora_a.to(at::kFloat), up = a.lora_b.to(at::kFloat);
  return (embedding ? at::matmul(down.t(), up.t()) : at::matmul(up, down)) * a.scale;
}

at::Tensor merged_weight(const Adapter& a, const at::Tensor& weight, const at::Tensor& base, bool embedding) {
  const at::NoGradGuard no_grad;
  const auto sum = weight + delta_weight(a, embedding);
  if (!a.magnitude.defined()) return sum;
  const auto factor = a.magnitude.to(at::kFloat) / adapted_norms(a, base, embedding);
  return embedding ? sum * factor : sum * factor.unsqueeze(1);
}

at::Tensor adapted_norms(const Adapter& a, const at::Tensor& weight, bool embedding) {
  const at::NoGradGuard no_grad;
  const WithoutAutocast f32(c10::autocast_dispatch_keyset);
  const auto down = a.lora_a.to(at::kFloat).flatten(1), up = a.lora_b.to(at::kFloat).flatten(1);
  const auto matrix = weight.flatten(1);
  const std::int64_t dimension = embedding ? 0 : 1;
  const std::int64_t rows = matrix.size(0), block = std::max<std::int64_t>(1, block_elements / matrix.size(1));
  std::vector<at::Tensor> parts;
  for (std::int64_t begin = 0; begin < rows; begin += block) {
    const std::int64_t end = std::min(rows, begin + block);
    const auto own = matrix.slice(0, begin, end).to(at::kFloat);
    const auto added = embedding ? at::matmul(down.slice(1, begin, end).t(), up.t())  // (block, hidden)
                                 : at::matmul(up.slice(0, begin, end), down);         // (block, in)
    const auto sum = own + added * a.scale;
    parts.push_back(at::linalg_vector_norm(sum, 2, at::IntArrayRef(dimension)));
  }
  if (!embedding) return at::cat(parts);
  auto squares = at::zeros({weight.size(1)}, weight.options().dtype(at::kDouble));
  for (const auto& part : parts) squares += part.to(at::kDouble).square();
  return squares.sqrt().to(at::kFloat);
}

}  // namespace atelier::nn
