#pragma once

#include <memory>
#include <vector>

#include "nn/adapter.h"
#include "nn/module.h"
#include "nn/packed_weight.h"
#include "nn/quantised_weight.h"

namespace atelier::nn {

/// Up to this many rows a product goes row by row through kernels::Table::linear, whose rows do not depend on one another;
/// above it through LibTorch's matrix product. Decoding never puts more rows into one step (see pipelines), so that its
/// results do not depend on the batch. Adapters and quantised weights keep to it.
inline constexpr std::int64_t max_invariant_rows = 64;

/// y = x W^T (+ bias), adapted: the one type for every weight matrix. Holds dense f32 or bf16 weights or a quantised one, and
/// any number of adapters.
class Linear : public Module {
 public:
  Linear(std::int64_t in, std::int64_t out, bool with_bias = false);
  /// A map whose weight another module owns (the tied head): it brings no parameter of its own.
  explicit Linear(const at::Tensor& shared_weight);

  /// x: (..., in), y: (..., out) in x's dtype; with `f32_result` in f32 whatever x is: sums are not rounded.
  at::Tensor forward(const at::Tensor& x, bool f32_result = false) const;

  /// forward(x) + summand, (..., out); may overwrite neither, but is rounded once where the weight is packed.
  at::Tensor forward_plus(const at::Tensor& x, const at::Tensor& summand) const;

  std::int64_t in() const { return weight.size(1); }
  std::int64_t out() const { return weight.size(0); }
  /// The weight without adapters, dense: `weight` itself, or the quantised one in `dtype`.
  at::Tensor dense_weight(at::ScalarType dtype) const;
  /// Puts a quantised weight in the place of the dense one, whose memory is let go.
  void quantise(std::shared_ptr<const QuantisedWeight> quantised);
  const std::shared_ptr<const QuantisedWeight>& quantised() const { return quantised_; }

  at::Tensor weight;  ///< (out, in); of a quantised one only the shape
  at::Tensor bias;    ///< (out), or undefined
  mutable PackedWeight packed;
  std::vector<std::shared_ptr<Adapter>> adapters;

 private:
  bool uses_packed() const;
  const at::Tensor& packed_weight(const at::Tensor& x) const;
  at::Tensor adapted(const Adapter& adapter, const at::Tensor& x, at::Tensor y) const;

  std::shared_ptr<const QuantisedWeight> quantised_;
};

/// As Linear::forward for a plain weight.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool f32_result = false);

/// The same for a quantised weight. Where a gradient is wanted, the backward pass dequantises anew: nothing dense is kept.
at::Tensor linear(const at::Tensor& x, const std::shared_ptr<const QuantisedWeight>& weight, const at::Tensor& bias,
                  bool f32_result = false);

}  // namespace atelier::nn
