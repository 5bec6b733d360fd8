#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// block(x) of which only x is kept: backward computes the block again (Chen and others 2016, Training Deep Nets with
/// Sublinear Memory Cost). Random numbers that the block draws from LibTorch's default generators, and autocast, are the
/// same the second time, so that gradients are those of block(x) bit for bit. `parameters`: what the block trains, as
/// leaves. With `keep_products` what products with frozen weights came to is kept, too (KeptProducts): more memory, and most of
/// the second computation is saved. Without gradients it is block(x).
at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& block, const at::Tensor& x,
                      const std::vector<at::Tensor>& parameters, bool keep_products = false);

}  // namespace atelier::nn
