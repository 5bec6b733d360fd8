#pragma once

#include <map>
#include <string>

#include <ATen/core/Tensor.h>

namespace atelier::models::adapters {

/// The tensors that one adapter file has for one module, by role (see keys.h).
using Roles = std::map<std::string, at::Tensor>;

/// What the adapter adds to the weight, in f32 and the weight's shape (out, in) or (out, in, kh, kw), at the given strength.
/// `weight` is the module's own, without any adapter. `what` names the module in errors.
///   LoRA:  up down * alpha / rank; with a `mid` kernel between them (LoCon's CP form)
///   LoHa:  (w1_a w1_b) * (w2_a w2_b) * alpha / rank (arXiv:2108.06098), with t1 and t2 in the Tucker form
///   LoKr:  kron(w1, w2) * alpha / rank, either factor whole or as a product
///   DoRA:  any of them, with the result's rows (or columns, by dora_scale's shape) brought to given lengths (arXiv:2402.09353)
/// Error(data): an incomplete set of roles, or shapes that do not fit one another or the weight.
at::Tensor delta(const Roles& roles, const at::Tensor& weight, double scale, const std::string& what);

}  // namespace atelier::models::adapters
