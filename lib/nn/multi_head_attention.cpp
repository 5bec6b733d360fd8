#include <algorithm>
#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "nn/conv.h"
#include "nn/kept_products.h"
#include "nn/kernels/flash_attention.h"
#include "nn/parallel.h"

namespace atelier::nn {
namespace {

bool plain(const at::Tensor& x, const at::Tensor& like) {
  return x.dim() == 3 && x.stride(2) == 1 && x.scalar_type() == like.scalar_type() && x.numel() > 0;
}

/// Our kernels for these tensors, or null where LibTorch's serve: with gradients, on other devices and types.
const kernels::FlashKernels* kernels_for(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                         std::int64_t heads, bool causal) {
  if (causal && q.size(1) != k.size(1)) return nullptr;
  if (at::GradMode::is_enabled() || !has_kernels(q) || !plain(q, q) || !plain(k, q) || !plain(v, q)) return nullptr;
  return (q.size(2) / heads) % 2 == 0 ? kernels::flash_kernels(kernel_type(q)) : nullptr;
}

kernels::FlashArgs::Side side(const at::Tensor& x) { return {x.const_data_ptr(), x.stride(0), x.stride(1)}; }

at::Tensor flash(const kernels::FlashKernels& kernel, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 std::int64_t heads, bool causal) {
  at::Tensor y = at::empty(q.sizes(), q.options());
  const std::int64_t dim = q.size(2) / heads, queries = q.size(1);
  const kernels::FlashArgs args{.type = kernel_type(q),
                                .q = side(q),
                                .k = side(k),
                                .v = side(v),
                                .out = y.mutable_data_ptr(),
                                .batch = q.size(0),
                                .heads = heads,
                                .queries = queries,
                                .keys = k.size(1),
                                .head_dim = dim,
                                .scale = 1.0F / std::sqrt(static_cast<float>(dim)),
                                .causal = causal};
  const auto floats = q.options().dtype(at::kFloat);
  const std::int64_t pairs = args.batch * heads, size = kernel.packed_size(args);
  const at::Tensor packed = at::empty({pairs, size}, floats);
  float* const memory = packed.mutable_data_ptr<float>();
  at::parallel_for(0, pairs, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) kernel.pack(args, i / heads, i % heads, memory + i * size);
  });
  const std::int64_t blocks = (queries + kernels::flash_queries - 1) / kernels::flash_queries;  // of one batch and head
  at::parallel_for(0, pairs * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    const at::Tensor scratch = at::empty({kernel.scratch_size(args)}, floats);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t pair = i / blocks, first = i % blocks * kernels::flash_queries;
      kernel.attend(args, pair / heads, pair % heads, memory + pair * size, first,
                    std::min(queries, first + kernels::flash_queries), scratch.mutable_data_ptr<float>());
    }
  });
  return y;
}

}  // namespace

at::Tensor multi_head_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                                bool causal) {
  if (const auto* kernel = kernels_for(q, k, v, heads, causal)) return flash(*kernel, q, k, v, heads, causal);
  const auto split = [&](const at::Tensor& x) {  // (B, L, heads d) -> (B, heads, L, d)
    return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
  };
  auto* const kept = at::GradMode::is_enabled() && q.device().is_cpu() ? KeptProducts::current() : nullptr;
  const auto y = kept != nullptr ? kept->attention(split(q), split(k), split(v), causal)
                                 : at::scaled_dot_product_attention(split(q), split(k), split(v), /*attn_mask=*/{},
                                                                    /*dropout_p=*/0.0, causal);
  return y.transpose(1, 2).reshape({q.size(0), q.size(1), q.size(2)});  // (B, L, heads d)
}

}  // namespace atelier::nn
