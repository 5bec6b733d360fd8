#include "nn/rope.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include "nn/parallel.h"

namespace atelier::nn {

Rope::Rope(std::int64_t head_dim, double theta, double factor) {
  for (std::int64_t i = 0; i < head_dim; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(head_dim);
    inverse_frequencies_.push_back(1.0F / std::pow(static_cast<float>(theta), static_cast<float>(exponent)));
    inverse_frequencies_.back() /= static_cast<float>(factor);
  }
}

std::pair<at::Tensor, at::Tensor> Rope::angles(const std::vector<std::int64_t>& positions) const {
  const auto half = static_cast<std::int64_t>(inverse_frequencies_.size());
  const auto n = static_cast<std::int64_t>(positions.size());
  auto cos = at::empty({n, half}, at::kFloat), sin = at::empty({n, half}, at::kFloat);
  float* c = cos.mutable_data_ptr<float>();
  float* s = sin.mutable_data_ptr<float>();
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t i = 0; i < half; ++i) {
      // The angle is rounded to f32 before its cosine is taken, as in transformers.
      const float angle = static_cast<float>(positions[row]) * inverse_frequencies_[i];
      c[row * half + i] = std::cos(angle);
      s[row * half + i] = std::sin(angle);
    }
  return {cos, sin};
}

at::Tensor rotate(at::Tensor x, const at::Tensor& cos, const at::Tensor& sin) {
  const std::int64_t rows = x.size(0), heads = x.size(1), dim = x.size(2);
  if (at::GradMode::is_enabled() || !has_kernels(x) || !x.is_contiguous()) {
    const auto c = cos.unsqueeze(1), s = sin.unsqueeze(1);
    const auto f = x.to(at::kFloat);
    const auto a = f.narrow(-1, 0, dim / 2), b = f.narrow(-1, dim / 2, dim / 2);
    return at::cat({a * c - b * s, b * c + a * s}, -1).to(x.scalar_type());
  }
  parallel(rows, 4 * heads * dim, [&](std::int64_t begin, std::int64_t end) {
    kernels::table().rope(kernel_type(x), x.mutable_data_ptr(), cos.const_data_ptr<float>(),
                          sin.const_data_ptr<float>(), heads, dim, begin, end);
  });
  return x;
}

}  // namespace atelier::nn
