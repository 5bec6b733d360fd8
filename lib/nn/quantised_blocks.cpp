#include "nn/quantised_blocks.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

namespace atelier::nn {
namespace {

// (blocks, 256), zeros after the last value.
at::Tensor in_blocks(const at::Tensor& values) {
  const std::int64_t missing = (values_per_scale - values.numel() % values_per_scale) % values_per_scale;
  return at::constant_pad_nd(values, {0, missing}).reshape({-1, values_per_scale});
}

}  // namespace

at::Tensor dynamic_tree(bool with_sign) {
  std::vector<float> values{0, 1};
  for (int zeros = 0; zeros < 7; ++zeros) {  // leading zero bits: the decade 10^-zeros
    const int intervals = (1 << (6 - zeros)) * (with_sign ? 1 : 2);
    const double decade = std::pow(10.0, -zeros), width = 0.9 / intervals;
    for (int i = 0; i < intervals; ++i) {
      const auto middle = static_cast<float>(decade * (0.1 + (i + 0.5) * width));
      values.push_back(middle);
      if (with_sign) values.push_back(-middle);
    }
  }
  std::sort(values.begin(), values.end());
  return at::tensor(values);
}

QuantisedBlocks quantise(const at::Tensor& values, const at::Tensor& tree) {
  const at::Tensor blocks = in_blocks(values);
  const at::Tensor absmax = blocks.abs().amax(1, true);  // (blocks, 1)
  const at::Tensor share = blocks / at::where(absmax > 0, absmax, at::ones_like(absmax));
  const at::Tensor borders = (tree.narrow(0, 0, 255) + tree.narrow(0, 1, 255)) / 2;
  const at::Tensor places = at::bucketize(share, borders, /*out_int32=*/true);
  return {places.flatten().narrow(0, 0, values.numel()).to(at::kByte).contiguous(), absmax.flatten().contiguous()};
}

at::Tensor dequantise(const QuantisedBlocks& blocks, const at::Tensor& tree) {
  const at::Tensor shares = in_blocks(at::index_select(tree, 0, blocks.codes.to(at::kInt)));
  return (shares * blocks.absmax.unsqueeze(1)).flatten().narrow(0, 0, blocks.codes.numel());
}

}  // namespace atelier::nn
