#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nn/module.h"

namespace atelier::nn {

/// What a recomputed block keeps besides its inputs: results of products with frozen weights and of attention (KeptProducts). A weight
/// with fewer columns than `least_columns` saves little time for the memory that its product takes: it is computed again.
struct Keep {
  Keep(bool all) : products(all) {}  // NOLINT(google-explicit-constructor): "true" and "false" say it
  static Keep from(std::int64_t least_columns) {
    Keep keep(true);
    keep.least_columns = least_columns;
    return keep;
  }
  bool products = false;
  std::int64_t least_columns = 0;
};

/// block(x) of which only x is kept: backward computes the block again (Chen and others 2016, Training Deep Nets with
/// Sublinear Memory Cost). Random numbers that the block draws from LibTorch's default generators, and autocast, are the
/// same the second time, so that gradients are those of block(x) bit for bit. `parameters`: what the block trains, as
/// leaves. With `keep` most of the second computation is saved for more memory. Without gradients it is block(x).
at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& block, const at::Tensor& x,
                      const std::vector<at::Tensor>& parameters, Keep keep = false);

/// The same for a block of several inputs, all defined; gradients reach those that ask for them. Where nothing asks for one it is
/// block(inputs).
at::Tensor checkpoint(const std::function<at::Tensor(const std::vector<at::Tensor>&)>& block,
                      const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& parameters,
                      Keep keep = false);

/// What asks for gradients in a module and below it: parameters, and the adapters on its layers.
std::vector<at::Tensor> trained_tensors(Module& module);

}  // namespace atelier::nn
