#include "nn/flash.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/empty.h>

#include "nn/parallel.h"

namespace atelier::nn {

const kernels::FlashKernels* flash_kernel_for(const at::Tensor& q, std::int64_t head_dim) {
  if (!has_kernels(q) || q.numel() == 0 || head_dim % 2 != 0) return nullptr;
  return kernels::flash_kernels(kernel_type(q));
}

const kernels::FlashKernels* flash_kernel_for(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, bool causal) {
  const auto plain = [&](const at::Tensor& x) {
    return x.dim() == 3 && x.stride(2) == 1 && x.scalar_type() == q.scalar_type() && x.numel() > 0;
  };
  if (causal && q.size(1) != k.size(1)) return nullptr;
  return plain(q) && plain(k) && plain(v) ? flash_kernel_for(q, q.size(2) / heads) : nullptr;
}

kernels::FlashArgs::Side flash_side(const at::Tensor& x, std::int64_t head_dim) {
  return {x.const_data_ptr(), x.stride(0), x.stride(1), head_dim};
}

kernels::FlashArgs flash_args(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, bool causal) {
  const std::int64_t dim = q.size(2) / heads;
  return {.type = kernel_type(q),
          .q = flash_side(q, dim),
          .k = flash_side(k, dim),
          .v = flash_side(v, dim),
          .out = nullptr,
          .batch = q.size(0),
          .heads = heads,
          .queries = q.size(1),
          .keys = k.size(1),
          .head_dim = dim,
          .scale = 1.0F / std::sqrt(static_cast<float>(dim)),
          .causal = causal};
}

void flash_attention(const kernels::FlashKernels& kernel, const kernels::FlashArgs& args) {
  const std::int64_t sides = args.heads / args.group;  // heads of keys and values
  const std::int64_t size = kernel.packed_size(args);
  const at::Tensor packed = at::empty({args.batch * sides, size}, at::kFloat);
  float* const memory = packed.mutable_data_ptr<float>();
  at::parallel_for(0, args.batch * sides, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) kernel.pack(args, i / sides, i % sides, memory + i * size);
  });
  const std::int64_t blocks = (args.queries + kernels::flash_queries - 1) / kernels::flash_queries;  // of one batch and head
  at::parallel_for(0, args.batch * args.heads * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    const at::Tensor scratch = at::empty({kernel.scratch_size(args)}, at::kFloat);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t batch = i / blocks / args.heads, head = i / blocks % args.heads, first = i % blocks * kernels::flash_queries;
      kernel.attend(args, batch, head, memory + (batch * sides + head / args.group) * size, first,
                    std::min(args.queries, first + kernels::flash_queries), scratch.mutable_data_ptr<float>());
    }
  });
}

void flash_gradients(const kernels::FlashKernels& kernel, const kernels::FlashGradientArgs& args) {
  const std::int64_t heads = args.forward.heads;
  at::parallel_for(0, args.forward.batch * heads, 1, [&](std::int64_t begin, std::int64_t end) {
    const at::Tensor scratch = at::empty({kernel.gradient_scratch_size(args)}, at::kFloat);
    for (std::int64_t i = begin; i < end; ++i) kernel.gradients(args, i / heads, i % heads, scratch.mutable_data_ptr<float>());
  });
}

}  // namespace atelier::nn
