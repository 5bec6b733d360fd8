#include "nn/flash.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include "nn/parallel.h"

namespace atelier::nn {

const kernels::FlashKernels* flash_kernel_for(const at::Tensor& q, std::int64_t head_dim) {
  if (at::GradMode::is_enabled() || !has_kernels(q) || q.numel() == 0 || head_dim % 2 != 0) return nullptr;
  return kernels::flash_kernels(kernel_type(q));
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

}  // namespace atelier::nn
