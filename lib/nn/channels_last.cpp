#include "nn/channels_last.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>

#include "nn/kernels/channels_last.h"
#include "nn/parallel.h"

namespace atelier::nn {

bool has_channels_last_kernels(const at::Tensor& x) {
  return !at::GradMode::is_enabled() && has_kernels(x) && x.dim() == 4 && x.numel() > 0 && x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor group_norm_channels_last(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const GroupNormOptions& options) {
  at::Tensor y = options.in_place ? x : at::empty_like(x);
  const at::Tensor added = options.added.defined() ? options.added.to(at::kFloat).contiguous() : at::Tensor();
  const kernels::GroupNormArgs args{.type = kernel_type(x),
                                    .x = x.const_data_ptr(),
                                    .y = y.mutable_data_ptr(),
                                    .weight = weight.const_data_ptr(),
                                    .bias = bias.const_data_ptr(),
                                    .added = added.defined() ? added.const_data_ptr<float>() : nullptr,
                                    .batch = x.size(0),
                                    .pixels = x.size(2) * x.size(3),
                                    .channels = x.size(1),
                                    .groups = options.groups,
                                    .eps = static_cast<float>(options.eps),
                                    .silu = options.silu};
  const auto& kernel = kernels::channels_last();
  const std::int64_t block = kernels::group_norm_block, blocks = (args.pixels + block - 1) / block, batch = args.batch;
  const at::Tensor sums = at::empty({batch, blocks, 2, args.channels}, x.options().dtype(at::kFloat));
  const at::Tensor maps = at::empty({batch, 2, args.channels}, sums.options());
  float* const partial = sums.mutable_data_ptr<float>();
  float* const map = maps.mutable_data_ptr<float>();
  const auto each_block = [&](const auto& work) {
    parallel(batch * blocks, block * args.channels, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t first = i % blocks * block;
        work(i / blocks, first, std::min(args.pixels, first + block), i);
      }
    });
  };
  each_block([&](std::int64_t b, std::int64_t first, std::int64_t last, std::int64_t i) {
    kernel.group_norm_sums(args, b, first, last, partial + i * 2 * args.channels);
  });
  for (std::int64_t b = 0; b < batch; ++b)
    kernel.group_norm_fold(args, b, blocks, partial + b * blocks * 2 * args.channels, map + b * 2 * args.channels);
  each_block([&](std::int64_t b, std::int64_t first, std::int64_t last, std::int64_t) {
    kernel.group_norm_apply(args, b, first, last, map + b * 2 * args.channels);
  });
  return y;
}

at::Tensor gelu_gate(const at::Tensor& x) {
  const std::int64_t n = x.size(-1) / 2;
  if (at::GradMode::is_enabled() || !has_kernels(x) || !x.is_contiguous()) {
    auto gate = at::gelu(x.narrow(-1, n, n));
    const auto hidden = x.narrow(-1, 0, n);
    return at::GradMode::is_enabled() ? gate * hidden : gate.mul_(hidden);
  }
  auto shape = x.sizes().vec();
  shape.back() = n;
  at::Tensor y = at::empty(shape, x.options());
  parallel(n == 0 ? 0 : y.numel() / n, n * 8, [&](std::int64_t begin, std::int64_t end) {
    kernels::channels_last().gelu_gate(kernel_type(x), x.const_data_ptr(), y.mutable_data_ptr(), n, begin, end);
  });
  return y;
}

}  // namespace atelier::nn
