#include "nn/linear.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>

#include "nn/parallel.h"

namespace atelier::nn {

Linear::Linear(std::int64_t in, std::int64_t out, bool with_bias) {
  weight = register_parameter("weight", placeholder({out, in}), /*requires_grad=*/false);
  if (with_bias) bias = register_parameter("bias", placeholder({out}), /*requires_grad=*/false);
}

at::Tensor Linear::forward(const at::Tensor& x) const { return linear(x, weight, bias); }

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool f32_result) {
  const std::int64_t in = weight.size(1), out = weight.size(0);
  const std::int64_t rows = in == 0 ? 0 : x.numel() / in;
  if (at::GradMode::is_enabled() || rows > max_invariant_rows || !has_kernels(x) ||
      x.scalar_type() != weight.scalar_type() || !weight.is_contiguous()) {
    auto y = at::linear(x, weight, bias);
    return f32_result ? y.to(at::kFloat) : y;
  }
  const auto input = x.contiguous();
  auto shape = x.sizes().vec();
  shape.back() = out;
  auto y = at::empty(shape, f32_result ? x.options().dtype(at::kFloat) : x.options());
  const kernels::LinearArgs args{.type = kernel_type(x),
                                 .x = input.const_data_ptr(),
                                 .w = weight.const_data_ptr(),
                                 .bias = bias.defined() ? bias.const_data_ptr() : nullptr,
                                 .y = y.mutable_data_ptr(),
                                 .y_f32 = f32_result || x.scalar_type() == at::kFloat,
                                 .rows = rows,
                                 .in = in,
                                 .out = out};
  parallel(out, in * rows, [&](std::int64_t begin, std::int64_t end) { kernels::table().linear(args, begin, end); });
  return y;
}

}  // namespace atelier::nn
