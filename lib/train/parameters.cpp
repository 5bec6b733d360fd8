#include "train/parameters.h"

#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>

namespace atelier::train {

void clear_gradients(std::vector<Parameter>& parameters) {
  for (Parameter& parameter : parameters) parameter.tensor.mutable_grad() = at::Tensor();
}

double gradient_norm(const std::vector<Parameter>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;  // one number is waited for, not one a tensor
  for (const Parameter& parameter : parameters) {
    const at::Tensor& gradient = parameter.tensor.grad();
    if (gradient.defined()) norms.push_back(at::linalg_vector_norm(gradient, 2, {}, false, at::kFloat));
  }
  if (norms.empty()) return 0;
  return at::linalg_vector_norm(at::stack(norms).to(at::kDouble)).item<double>();
}

void scale_gradients(std::vector<Parameter>& parameters, double factor) {
  const at::NoGradGuard no_grad;
  for (Parameter& parameter : parameters) {
    if (parameter.tensor.grad().defined()) parameter.tensor.mutable_grad().mul_(factor);
  }
}

void clip_gradients(std::vector<Parameter>& parameters, double norm, double max_norm) {
  if (max_norm > 0 && norm > max_norm) scale_gradients(parameters, max_norm / (norm + 1e-6));
}

}  // namespace atelier::train
