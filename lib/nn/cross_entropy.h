#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// The output layer of a language model: how hidden states become logits, without the soft cap.
struct Head {
  /// (n, hidden) -> (n, vocab), differentiable in its input and its parameters.
  std::function<at::Tensor(const at::Tensor&)> logits;
  std::vector<at::Tensor> parameters;  ///< leaves that are trained
  double softcap = 0;                  ///< cap * tanh(logits / cap); 0: none
};

/// Positions whose logits exist at one time, by default: 64 MiB of f32.
std::int64_t cross_entropy_rows(std::int64_t vocab);

/// SUM over positions of -log softmax(capped logits)[target], a scalar in f32. hidden: (n, hidden), targets: (n) int64 in
/// [0, vocab). Differentiable in hidden and in the head's parameters.
///
/// Logits exist for `rows` positions at a time: the gradients are computed in the forward pass, chunk by chunk (Wijmans
/// and others 2024, Cut Your Losses, section 4; Liger Kernel's FusedLinearCrossEntropy), and backward multiplies them by
/// what comes in. Without gradients only the loss is computed.
at::Tensor cross_entropy_sum(const at::Tensor& hidden, const at::Tensor& targets, const Head& head, std::int64_t rows);

}  // namespace atelier::nn
