// NF4 against scripts/fixtures/peft.py, which quantises by the levels of the paper.
#include <array>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include "io/weight_source.h"
#include "nn/linear.h"
#include "nn/nf4.h"
#include "support/doctest_last.h"
#include "support/seeded.h"

namespace {

using namespace atelier;
using nn::Nf4Weight;

at::Tensor golden(const std::string& name, at::ScalarType type = at::kFloat) {
  return io::WeightSource::open(std::string(ATELIER_TEST_DATA) + "/peft/nf4.safetensors")->load(name, type, at::kCPU);
}

double difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

std::shared_ptr<const Nf4Weight> random_weight(std::int64_t out, std::int64_t in) {
  return Nf4Weight::quantise(test::seeded("nf4", {out, in}));
}

}  // namespace

TEST_CASE("NF4 levels, packing, magnitudes and values are the reference's") {
  const auto levels = at::tensor(at::ArrayRef<float>(nn::nf4_levels.data(), nn::nf4_levels.size()));
  CHECK(at::equal(levels, golden("levels")));
  const auto weight = golden("weight");
  const auto made = Nf4Weight::quantise(weight, /*double_quantisation=*/false);
  CHECK(at::equal(made->codes(), golden("packed", at::kByte)));
  CHECK(at::equal(made->magnitudes(0, golden("absmax").numel()), golden("absmax")));
  CHECK(at::equal(made->dequantise(at::kFloat), golden("dense")));
  CHECK(made->bytes() == nn::nf4_bytes(37, 52, false));
  // Rows that begin and end inside a block.
  for (const auto& [begin, end] : std::vector<std::pair<int, int>>{{0, 1}, {1, 2}, {3, 11}, {36, 37}, {5, 5}})
    CHECK(at::equal(made->dequantise(at::kFloat, begin, end), golden("dense").slice(0, begin, end)));
  CHECK(at::equal(made->dequantise(at::kBFloat16), golden("dense").to(at::kBFloat16)));
}

TEST_CASE("double quantisation keeps the codes and comes close to the magnitudes") {
  const auto weight = golden("weight");
  const auto made = Nf4Weight::quantise(weight);
  CHECK(at::equal(made->codes(), golden("packed", at::kByte)));
  const auto exact = golden("absmax"), magnitudes = made->magnitudes(0, exact.numel());
  const double spread = (exact - exact.mean()).abs().max().item<double>();
  CHECK(difference(magnitudes, exact) < 0.02 * spread);
  CHECK(at::equal(made->magnitudes(3, 9), magnitudes.slice(0, 3, 9)));
  CHECK(made->bytes() == nn::nf4_bytes(37, 52));
  const auto large = random_weight(130, 640);  // 1300 blocks: several of the second quantisation
  CHECK(at::equal(large->magnitudes(700, 1300), large->magnitudes(0, 1300).slice(0, 700, 1300)));
  CHECK(8.0 * static_cast<double>(large->bytes()) / (130 * 640) < 4.14);
}

TEST_CASE("bf16 and zero weights are quantised, too") {
  const auto weight = golden("weight").to(at::kBFloat16);
  const auto made = Nf4Weight::quantise(weight, false);
  CHECK(at::equal(made->codes(), Nf4Weight::quantise(weight.to(at::kFloat), false)->codes()));
  CHECK(Nf4Weight::quantise(at::zeros({3, 50}))->dequantise(at::kFloat).abs().max().item<double>() == 0);
}

TEST_CASE("a product with an NF4 weight is that with the dense weight, row by row the same") {
  const at::NoGradGuard no_grad;
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const auto weight = random_weight(150, 76);
    const auto dense = weight->dequantise(type);
    const auto x = test::seeded("nf4.x", {90, 76}).to(type), bias = test::seeded("nf4.bias", {150}).to(type);
    for (const std::int64_t rows : {1, 7, 64, 90}) {
      const auto y = nn::linear(x.slice(0, 0, rows), weight, bias);
      CHECK(at::equal(y, nn::linear(x.slice(0, 0, rows), dense, bias)));
    }
    const auto together = nn::linear(x.slice(0, 0, 20), weight, {}, /*f32_result=*/true);
    CHECK((together.scalar_type() == at::kFloat));
    for (int i = 0; i < 20; ++i) CHECK(at::equal(together[i], nn::linear(x.slice(0, i, i + 1), weight, {}, true)[0]));
  }
}

TEST_CASE("gradients go through an NF4 weight") {
  const auto weight = random_weight(30, 76);
  const auto x = test::seeded("nf4.x", {5, 76}).requires_grad_(true), up = test::seeded("nf4.up", {5, 30});
  const auto y = nn::linear(x, weight, at::Tensor());
  const auto gradient = torch::autograd::grad({(y * up).sum()}, {x})[0];
  CHECK(difference(gradient, at::matmul(up, weight->dequantise(at::kFloat))) < 1e-5);
  // Through adapters on it as well.
  nn::Linear linear(76, 30);
  linear.quantise(weight);
  auto adapter = std::make_shared<nn::Adapter>();
  adapter->lora_a = test::seeded("nf4.a", {3, 76}).requires_grad_(true);
  adapter->lora_b = test::seeded("nf4.b", {30, 3}).requires_grad_(true);
  adapter->scale = 0.5;
  linear.adapters.push_back(adapter);
  const auto gradients = torch::autograd::grad({(linear.forward(x) * up).sum()}, {adapter->lora_a, adapter->lora_b});
  CHECK(difference(gradients[0], at::matmul(at::matmul(up, adapter->lora_b).t(), x) * 0.5) < 1e-5);
  CHECK(difference(gradients[1], at::matmul(up.t(), at::matmul(x, adapter->lora_a.t())) * 0.5) < 1e-5);
}
