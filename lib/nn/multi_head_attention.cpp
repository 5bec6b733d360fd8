#include <cmath>

#include <ATen/ops/empty.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "nn/conv.h"
#include "nn/flash.h"
#include "nn/parallel.h"

namespace atelier::nn {
namespace {

bool plain(const at::Tensor& x, const at::Tensor& like) {
  return x.dim() == 3 && x.stride(2) == 1 && x.scalar_type() == like.scalar_type() && x.numel() > 0;
}

/// Our kernels for these tensors, or null where LibTorch's serve.
const kernels::FlashKernels* kernels_for(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, bool causal) {
  if (causal && q.size(1) != k.size(1)) return nullptr;
  if (!plain(q, q) || !plain(k, q) || !plain(v, q)) return nullptr;
  return flash_kernel_for(q, q.size(2) / heads);
}

at::Tensor flash(const kernels::FlashKernels& kernel, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 std::int64_t heads, bool causal) {
  at::Tensor y = at::empty(q.sizes(), q.options());
  const std::int64_t dim = q.size(2) / heads;
  const auto side = [&](const at::Tensor& x) { return kernels::FlashArgs::Side{x.const_data_ptr(), x.stride(0), x.stride(1), dim}; };
  flash_attention(kernel, {.type = kernel_type(q),
                           .q = side(q),
                           .k = side(k),
                           .v = side(v),
                           .out = y.mutable_data_ptr(),
                           .batch = q.size(0),
                           .heads = heads,
                           .queries = q.size(1),
                           .keys = k.size(1),
                           .head_dim = dim,
                           .scale = 1.0F / std::sqrt(static_cast<float>(dim)),
                           .causal = causal});
  return y;
}

}  // namespace

at::Tensor multi_head_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                                bool causal) {
  if (const auto* kernel = kernels_for(q, k, v, heads, causal)) return flash(*kernel, q, k, v, heads, causal);
  const auto split = [&](const at::Tensor& x) {  // (B, L, heads d) -> (B, heads, L, d)
    return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
  };
  const auto y =
      at::scaled_dot_product_attention(split(q), split(k), split(v), /*attn_mask=*/{}, /*dropout_p=*/0.0, causal);
  return y.transpose(1, 2).reshape({q.size(0), q.size(1), q.size(2)});  // (B, L, heads d)
}

}  // namespace atelier::nn
