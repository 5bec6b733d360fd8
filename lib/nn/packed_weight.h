#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

#include "nn/module.h"

namespace atelier::nn {

/// A layer's weight in the order in which oneDNN reads it. LibTorch brings a dense weight into that order at every call, which for
/// small pictures takes as long as the product. The dense one's memory is let go (pages of a mapped file too), so that a model takes
/// the memory of its weights once. Only for models that are not trained.
class PackedWeight {
 public:
  /// From now on `of` packs: done for layers of pack_when_used.
  void want() { wanted_ = true; }
  bool wanted() const { return wanted_; }

  /// The packed form of `weight`, made by `pack` where it is not there yet or the weight was replaced since. Afterwards `weight` has
  /// a shape and a type but no memory.
  const at::Tensor& of(const at::Tensor& weight, const std::function<at::Tensor(const at::Tensor&)>& pack);

  /// Gives `weight` its memory back, bit for bit, if it was let go.
  void unpack(const at::Tensor& weight);

 private:
  bool holds(const at::Tensor& weight) const;

  bool wanted_ = false;
  at::Tensor packed_;
  at::Tensor hollow_;  ///< what stands in the place of the dense weight
};

/// Linear maps and convolutions in and below the module pack their weights when they are first used without gradients. Does nothing
/// where LibTorch has no such kernels: other devices and types, processors without AVX-512 for bf16.
void pack_when_used(Module& module);

/// Gives all weights in and below the module back their memory: before something reads them.
void unpack(Module& module);

/// Drops the pages of mapped files that parameters in and below the module lie on; they come in again when they are touched.
void release_pages(const Module& module);

/// y = x W^T (+ bias) (+ summand) and the convolution of x (B, in, H, W) likewise, with weights that these functions packed. `pack_*`
/// takes weights on the CPU; a summand, if there is one, has the result's shape and layout.
at::Tensor pack_linear(const at::Tensor& weight, std::int64_t rows);
at::Tensor packed_linear(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, const at::Tensor& summand = {});
at::Tensor pack_convolution(const at::Tensor& weight, std::int64_t stride, std::int64_t padding, at::IntArrayRef input_size);
at::Tensor packed_convolution(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, std::int64_t stride,
                              std::int64_t padding, const at::Tensor& summand = {});

}  // namespace atelier::nn
