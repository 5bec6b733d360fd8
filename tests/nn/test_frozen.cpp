// Frozen weights that stay in the checkpoint's half type: the same results and gradients, to the bit, as of widened ones.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include "models/tensor_source.h"
#include "nn/checkpoint.h"
#include "nn/conv.h"
#include "nn/frozen.h"
#include "nn/linear.h"
#include "support/doctest_last.h"

namespace {

using namespace atelier;

struct Net : nn::Module {
  std::shared_ptr<nn::Linear> map = register_module("map", std::make_shared<nn::Linear>(8, 12, true));
  std::shared_ptr<nn::Conv2d> conv = register_module("conv", std::make_shared<nn::Conv2d>(12, 4, nn::Conv2d::Options{.kernel = 3, .padding = 1}));
  std::shared_ptr<nn::GroupNorm> norm = register_module("norm", std::make_shared<nn::GroupNorm>(2, 4, 1e-5));

  at::Tensor forward(const at::Tensor& x) const {  // (2, 100, 8) -> (2, 4, 10, 10)
    return norm->forward(conv->forward(map->forward(x).transpose(1, 2).reshape({2, 12, 10, 10}).contiguous(at::MemoryFormat::ChannelsLast)));
  }
};

test::TensorSource checkpoint(at::ScalarType dtype) {
  at::manual_seed(1);
  test::TensorSource source;
  for (const auto& entry : Net().named_parameters()) source.tensors[entry.key()] = at::randn(entry.value().sizes()).to(dtype);
  return source;
}

void add_lora(nn::Linear& layer) {
  at::manual_seed(3);
  auto adapter = std::make_shared<nn::Adapter>();
  adapter->lora_a = at::randn({2, 8}).requires_grad_(true);
  adapter->lora_b = at::randn({12, 2}).requires_grad_(true);
  adapter->magnitude = at::randn({12}).abs().requires_grad_(true);
  layer.adapters.push_back(adapter);
}

TEST_CASE("frozen halves give the bits of f32, forwards and backwards, with adapters, in recomputed blocks") {
  for (const auto dtype : {at::kHalf, at::kBFloat16})
    for (const int kept : {0, 1, 2}) {  // no block; one that computes all again; one that keeps products
      CAPTURE(dtype);
      CAPTURE(kept);
      auto source = checkpoint(dtype);
      std::vector<std::vector<at::Tensor>> found;
      for (const bool frozen : {true, false}) {
        Net net;
        if (frozen)
          nn::load_frozen_parameters(net, source, nn::NameMap(), at::kFloat, at::kCPU);
        else
          nn::load_parameters(net, source, nn::NameMap(), at::kFloat, at::kCPU);
        const auto stored = frozen ? dtype : at::kFloat;
        CHECK((net.map->weight.scalar_type() == stored && net.conv->weight.scalar_type() == stored));
        for (const at::Tensor& other : {net.map->bias, net.conv->bias, net.norm->weight}) CHECK((other.scalar_type() == at::kFloat));
        at::manual_seed(2);
        const at::Tensor x = at::randn({2, 100, 8}).requires_grad_(true);
        at::Tensor plain;
        {
          const at::NoGradGuard no_grad;
          plain = net.forward(x);
        }
        add_lora(*net.map);
        const auto& adapter = *net.map->adapters[0];
        const auto block = [&](const at::Tensor& input) { return net.forward(input); };
        const auto y = kept == 0 ? block(x) : nn::checkpoint(block, x, {adapter.lora_a, adapter.lora_b, adapter.magnitude}, kept == 2);
        y.square().sum().backward();
        found.push_back({plain, y.detach(), x.grad(), adapter.lora_a.grad(), adapter.lora_b.grad(), adapter.magnitude.grad()});
      }
      for (std::size_t i = 0; i < found[0].size(); ++i) {
        CAPTURE(i);
        CHECK(at::equal(found[0][i], found[1][i]));
        CHECK(found[0][i].abs().max().item<double>() > 0);
      }
    }
}

TEST_CASE("in other types, and of f32 checkpoints, nothing stays narrow") {
  for (const auto stored : {at::kHalf, at::kFloat})
    for (const auto dtype : {at::kBFloat16, at::kFloat}) {
      if (stored == at::kHalf && dtype == at::kFloat) continue;
      auto source = checkpoint(stored);
      Net net;
      nn::load_frozen_parameters(net, source, nn::NameMap(), dtype, at::kCPU);
      for (const auto& entry : net.named_parameters()) CHECK((entry.value().scalar_type() == dtype));
    }
  auto source = checkpoint(at::kHalf);
  source.tensors.erase("conv.weight");
  Net net;
  CHECK_THROWS(nn::load_frozen_parameters(net, source, nn::NameMap(), at::kFloat, at::kCPU));
}

}  // namespace
