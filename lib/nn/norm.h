#pragma once

#include "nn/module.h"

namespace atelier::nn {

/// Gemma's RMSNorm: x / sqrt(mean(x^2) + eps) * (1 + w), computed in f32 and rounded once (transformers: GemmaRMSNorm).
class RmsNorm : public Module {
 public:
  RmsNorm(std::int64_t size, double eps);

  /// x: (..., size), same shape and dtype back.
  at::Tensor forward(const at::Tensor& x) const;

  at::Tensor weight;  ///< (size)

 private:
  double eps_;
};

/// gelu_tanh(gate) * up, elementwise; may overwrite `gate`.
at::Tensor geglu(at::Tensor gate, const at::Tensor& up);

/// cap * tanh(x / cap) of f32 numbers; may overwrite x.
at::Tensor softcap(at::Tensor x, double cap);

}  // namespace atelier::nn
