#pragma once

#include "nn/module.h"

namespace atelier::nn {

/// Up to this many rows a product goes row by row through kernels::Table::linear, whose rows do not depend on one another;
/// above it through LibTorch's matrix product. Decoding never puts more rows into one step (see pipelines), so that its
/// results do not depend on the batch.
inline constexpr std::int64_t max_invariant_rows = 64;

/// y = x W^T (+ bias): the one type for every weight matrix. Holds dense f32 or bf16 weights.
class Linear : public Module {
 public:
  Linear(std::int64_t in, std::int64_t out, bool with_bias = false);

  /// x: (..., in), y: (..., out) in x's dtype.
  at::Tensor forward(const at::Tensor& x) const;

  at::Tensor weight;  ///< (out, in)
  at::Tensor bias;    ///< (out), or undefined
};

/// As Linear::forward for a weight that is kept elsewhere (the tied head). With `f32_result` y is f32 whatever x is: sums
/// are not rounded.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool f32_result = false);

}  // namespace atelier::nn
