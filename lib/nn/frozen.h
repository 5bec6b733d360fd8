#pragma once

#include "nn/module.h"

namespace atelier::nn {

/// load_parameters() for a model whose own weights stay as they are, as adapters are trained on it. Computed in f32, the weights of
/// Linear and Conv2d stay in the f16 or bf16 of the checkpoint and are widened for each product, which is exact: the same bits in
/// half of the memory. All other parameters are loaded in `dtype`. Convolutions' are laid out channels-last.
void load_frozen_parameters(Module& module, io::WeightSource& source, const NameMap& names, at::ScalarType dtype, at::Device device);

/// A weight for a product with x: widened where x is f32 and the weight is narrower, else as it is. Autocast casts both itself.
at::Tensor widened(const at::Tensor& weight, const at::Tensor& x);

/// x W^T (+ bias), (..., out), for a weight (out, in) that is not trained, outside of any graph; and dy W, (..., in), the gradient of x. In f32
/// through kernels of our own (kernels/wide_product.h) where there are some, which widen in passing.
at::Tensor frozen_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor frozen_gradient(const at::Tensor& dy, const at::Tensor& weight);

}  // namespace atelier::nn
