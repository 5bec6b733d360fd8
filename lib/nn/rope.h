#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// Rotary position embedding, half-split: of each head's first and second half, (a, b) -> (a cos - b sin, b cos + a sin).
/// With linear scaling positions are divided by `factor` (Su et al. 2021; transformers' "default" and "linear" types).
class Rope {
 public:
  Rope(std::int64_t head_dim, double theta, double factor = 1.0);

  /// cos and sin of the positions, each (n, head_dim / 2) in f32 on the CPU.
  std::pair<at::Tensor, at::Tensor> angles(const std::vector<std::int64_t>& positions) const;

 private:
  std::vector<float> inverse_frequencies_;
};

/// Rotates x: (n, heads, head_dim), contiguous, possibly in place. cos, sin: (n, head_dim / 2), f32, on x's device.
at::Tensor rotate(at::Tensor x, const at::Tensor& cos, const at::Tensor& sin);

}  // namespace atelier::nn
