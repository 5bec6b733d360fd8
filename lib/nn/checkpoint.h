#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nn/module.h"

namespace atelier::nn {

/// block(x) of which only x is kept: backward computes the block again (Chen and others 2016, Training Deep Nets with
/// Sublinear Memory Cost). Random numbers that the block draws from LibTorch's default generators, and autocast, are the
/// same the second time, so that gradients are those of block(x) bit for bit. `parameters`: what the block trains, as
/// leaves. With `keep_products` what products with frozen weights came to is kept, too (KeptProducts): more memory, and most of
/// the second computation is saved. Without gradients it is block(x).
at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& block, const at::Tensor& x,
                      const std::vector<at::Tensor>& parameters, bool keep_products = false);

/// The same for a block of several inputs, all defined; gradients reach those that ask for them. Where nothing asks for one it is
/// block(inputs).
at::Tensor checkpoint(const std::function<at::Tensor(const std::vector<at::Tensor>&)>& block,
                      const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& parameters,
                      bool keep_products = false);

/// What asks for gradients in a module and below it: parameters, and the adapters on its layers.
std::vector<at::Tensor> trained_tensors(Module& module);

}  // namespace atelier::nn
