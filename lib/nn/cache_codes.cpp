#include "nn/cache_codes.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/where.h>

#include "nn/kernels/cache_codes.h"
#include "nn/parallel.h"

namespace atelier::nn {
namespace {

/// For devices without kernels; the same numbers.
std::pair<at::Tensor, at::Tensor> to_codes_by_operators(const at::Tensor& x) {
  const auto f = x.to(at::kFloat);
  const auto scales = at::amax(f.abs(), -1, /*keepdim=*/true) / 127.0F;
  const auto inverse = at::where(scales > 0, scales.reciprocal(), scales);
  return {(f * inverse).round().clamp(-127, 127).to(at::kChar).contiguous(), scales.contiguous()};
}

}  // namespace

std::pair<at::Tensor, at::Tensor> to_codes(const at::Tensor& x) {
  if (!has_kernels(x) || x.stride(2) != 1) return to_codes_by_operators(x);
  const std::int64_t heads = x.size(0), n = x.size(1), dim = x.size(2);
  auto codes = at::empty({heads, n, dim}, x.options().dtype(at::kChar));
  auto scales = at::empty({heads, n, 1}, x.options().dtype(at::kFloat));
  const auto* const from = static_cast<const char*>(x.const_data_ptr());
  const auto size = static_cast<std::int64_t>(x.element_size());
  parallel(heads * n, 8 * dim, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      scales.mutable_data_ptr<float>()[row] =
          kernels::code_table().encode(kernel_type(x), from + (row / n * x.stride(0) + row % n * x.stride(1)) * size,
                                       dim, codes.mutable_data_ptr<std::int8_t>() + row * dim);
  });
  return {codes, scales};
}

at::Tensor from_codes(const at::Tensor& codes, const at::Tensor& scales, at::ScalarType dtype) {
  return (codes.to(at::kFloat) * scales).to(dtype);
}

}  // namespace atelier::nn
