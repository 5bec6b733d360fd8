// Layers whose weights are packed: the same results, and the same weights again.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/randn.h>

#include "nn/conv.h"
#include "nn/linear.h"
#include "nn/packed_weight.h"
#include "support/doctest_last.h"

namespace {

using namespace atelier;

at::Tensor drawn(at::IntArrayRef shape, at::ScalarType dtype) { return at::randn(shape).to(dtype); }

double distance(const at::Tensor& a, const at::Tensor& b) { return (a.to(at::kFloat) - b.to(at::kFloat)).abs().max().item<double>(); }

TEST_CASE("a packed linear map gives what the dense one gives, and its weight comes back bit for bit") {
  const at::NoGradGuard no_grad;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    at::manual_seed(1);
    nn::Linear layer(48, 80, true);
    const auto weight = drawn({80, 48}, dtype);
    layer.weight.set_data(weight.clone());
    layer.bias.set_data(drawn({80}, dtype));
    const auto x = drawn({2, 100, 48}, dtype), onto = drawn({2, 100, 80}, dtype);
    const auto wanted = layer.forward(x), sum = layer.forward_plus(x, onto);
    nn::pack_when_used(layer);
    if (!layer.packed.wanted()) continue;  // a processor without these kernels
    const double tolerance = dtype == at::kFloat ? 1e-4 : 0.25;
    CHECK(distance(layer.forward(x), wanted) < tolerance);
    CHECK(distance(layer.forward_plus(x, onto), sum) < tolerance);
    CHECK(layer.weight.storage().nbytes() < 16);  // the dense weight's memory is let go
    CHECK(layer.weight.sizes() == weight.sizes());
    CHECK(layer.forward(x.narrow(1, 0, 3)).sizes() == at::IntArrayRef({2, 3, 80}));
    nn::unpack(layer);
    CHECK(layer.weight.equal(weight));
    CHECK(distance(layer.forward(x), wanted) < tolerance);  // and packs again
  }
}

TEST_CASE("a packed convolution follows a weight that is replaced") {
  const at::NoGradGuard no_grad;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    at::manual_seed(2);
    nn::Conv2d layer(32, 48, {.stride = 2});
    layer.weight.set_data(drawn({48, 32, 3, 3}, dtype));
    layer.bias.set_data(drawn({48}, dtype));
    const auto x = drawn({2, 32, 17, 12}, dtype).contiguous(at::MemoryFormat::ChannelsLast);
    const auto wanted = layer.forward(x).clone();
    nn::pack_when_used(layer);
    if (!layer.packed.wanted()) continue;
    const double tolerance = dtype == at::kFloat ? 1e-4 : 0.25;
    CHECK(distance(layer.forward(x), wanted) < tolerance);
    CHECK(layer.forward(x).is_contiguous(at::MemoryFormat::ChannelsLast));
    CHECK(distance(layer.forward_plus(x, wanted), wanted + wanted) < tolerance);
    const auto other = drawn({48, 32, 3, 3}, dtype);
    layer.weight.set_data(other.clone());
    CHECK(distance(layer.forward(x), wanted) > tolerance);
    CHECK(distance(layer.forward(x), at::conv2d(x, other, layer.bias, 2, 1)) < tolerance);
    nn::unpack(layer);
    CHECK(layer.weight.equal(other));
  }
}

TEST_CASE("layers that are trained stay dense") {
  nn::Linear layer(8, 8);
  layer.weight.set_data(at::randn({8, 8}));
  nn::pack_when_used(layer);
  const auto x = at::randn({100, 8}).requires_grad_(true);
  CHECK(layer.forward(x).requires_grad());
  CHECK(layer.weight.storage().nbytes() == 256);
}

}  // namespace
