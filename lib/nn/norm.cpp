#include "nn/norm.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/tanh.h>

#include "nn/parallel.h"

namespace atelier::nn {

RmsNorm::RmsNorm(std::int64_t size, double eps) : eps_(eps) {
  weight = register_parameter("weight", placeholder({size}), /*requires_grad=*/false);
}

at::Tensor RmsNorm::forward(const at::Tensor& x) const {
  if (at::GradMode::is_enabled() || !has_kernels(x) || x.scalar_type() != weight.scalar_type()) {
    const auto f = x.to(at::kFloat);
    const auto y = f * at::rsqrt(at::mean(f * f, -1, /*keepdim=*/true) + eps_);
    return (y * (1.0 + weight.to(at::kFloat))).to(x.scalar_type());
  }
  const auto input = x.contiguous();
  auto y = at::empty_like(input);
  const std::int64_t n = weight.size(0);
  parallel(input.numel() / n, n, [&](std::int64_t begin, std::int64_t end) {
    kernels::table().rms_norm(kernel_type(input), input.const_data_ptr(), weight.const_data_ptr(), y.mutable_data_ptr(),
                              n, n, static_cast<float>(eps_), begin, end);
  });
  return y;
}

at::Tensor geglu(at::Tensor gate, const at::Tensor& up) {
  if (at::GradMode::is_enabled() || !has_kernels(gate) || !gate.is_contiguous() || !up.is_contiguous())
    return at::gelu(gate, "tanh") * up;
  const std::int64_t n = gate.size(-1);
  parallel(gate.numel() / n, 8 * n, [&](std::int64_t begin, std::int64_t end) {
    kernels::table().geglu(kernel_type(gate), gate.mutable_data_ptr(), up.const_data_ptr(), n, begin, end);
  });
  return gate;
}

at::Tensor softcap(at::Tensor x, double cap) {
  if (at::GradMode::is_enabled() || !has_kernels(x) || x.scalar_type() != at::kFloat || !x.is_contiguous())
    return at::tanh(x / cap) * cap;
  // By rows of the last dimension: a thread's share then starts at the same lane whatever the batch.
  const std::int64_t n = x.size(-1);
  parallel(x.numel() / n, 8 * n, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      kernels::table().softcap(x.mutable_data_ptr<float>(), static_cast<float>(cap), row * n, (row + 1) * n);
  });
  return x;
}

}  // namespace atelier::nn
