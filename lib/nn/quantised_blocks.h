#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// Elements that share one scale.
inline constexpr std::int64_t values_per_scale = 256;

/// The 256 values of the dynamic tree data type, ascending in [-1, 1] (signed) or [0, 1], f32: from 7 decades, the
/// larger ones divided more finely. Dettmers 2015, 8-Bit Approximations for Parallelism in Deep Learning; equal to
/// bitsandbytes' create_dynamic_map.
at::Tensor dynamic_tree(bool with_sign);

struct QuantisedBlocks {
  at::Tensor codes;   ///< (n) U8: places in the tree
  at::Tensor absmax;  ///< (ceil(n / 256)) f32: what the tree's values are multiplied by
};

/// values: (n) f32. Each block is divided by its largest magnitude and rounded to the nearest value of `tree`.
QuantisedBlocks quantise(const at::Tensor& values, const at::Tensor& tree);

/// (n) f32.
at::Tensor dequantise(const QuantisedBlocks& blocks, const at::Tensor& tree);

}  // namespace atelier::nn
