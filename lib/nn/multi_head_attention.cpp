#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "nn/attention_gradients.h"
#include "nn/conv.h"
#include "nn/flash.h"
#include "nn/kept_products.h"

namespace atelier::nn {
namespace {

at::Tensor fused(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, bool causal) {
  const auto split = [&](const at::Tensor& x) {  // (B, L, heads d) -> (B, heads, L, d)
    return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
  };
  const auto y = at::scaled_dot_product_attention(split(q), split(k), split(v), /*attn_mask=*/{}, /*dropout_p=*/0.0, causal);
  return y.transpose(1, 2).reshape({q.size(0), q.size(1), q.size(2)});  // (B, L, heads d)
}

/// As autocast casts what LibTorch's operator takes.
at::Tensor as_autocast(const at::Tensor& x) {
  return at::autocast::is_autocast_enabled(at::kCPU) ? x.to(at::autocast::get_autocast_dtype(at::kCPU)) : x;
}

at::Tensor with_graph(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, bool causal) {
  if (auto* const kept = KeptProducts::current()) return kept->attention(q, k, v, heads, causal);
  if (flash_kernel_for(q, k, v, heads, causal) == nullptr) return fused(q, k, v, heads, causal);
  return with_attention_gradients(q, k, v, attention_with_sums(q, k, v, heads, causal), heads, causal);
}

}  // namespace

at::Tensor multi_head_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                                bool causal) {
  if (!q.device().is_cpu()) return fused(q, k, v, heads, causal);
  if (at::GradMode::is_enabled()) return with_graph(as_autocast(q), as_autocast(k), as_autocast(v), heads, causal);
  const auto* kernel = flash_kernel_for(q, k, v, heads, causal);
  if (kernel == nullptr) return fused(q, k, v, heads, causal);
  const at::Tensor y = at::empty(q.sizes(), q.options());
  auto args = flash_args(q, k, v, heads, causal);
  args.out = y.mutable_data_ptr();
  flash_attention(*kernel, args);
  return y;
}

}  // namespace atelier::nn
