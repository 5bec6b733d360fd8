// Weights in 8 and 4 bits as nn::Linear and nn::Embedding hold them: products, gradients, loading, and what is refused.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include "base/error.h"
#include "models/tensor_source.h"
#include "nn/embedding.h"
#include "nn/gptq.h"
#include "nn/linear.h"
#include "nn/quantised_loading.h"
#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/seeded.h"

namespace {

using namespace atelier;
using nn::GroupQuantisedWeight;
using nn::GroupQuantisation;

std::shared_ptr<const GroupQuantisedWeight> packed(const at::Tensor& weight, int bits, std::int64_t group = 32) {
  return GroupQuantisedWeight::quantise(weight, {bits, group}, "w");
}

/// A map and a table of it.
class Net : public nn::Module {
 public:
  Net() {
    table = register_module("table", std::make_shared<nn::Embedding>(40, 70));
    map = register_module("map", std::make_shared<nn::Linear>(70, 37, /*with_bias=*/true));
  }
  std::shared_ptr<nn::Embedding> table;
  std::shared_ptr<nn::Linear> map;
};

test::TensorSource source_of_net() {
  test::TensorSource source;
  source.tensors["table.weight"] = test::seeded("table", {40, 70});
  source.tensors["map.weight"] = test::seeded("map", {37, 70});
  source.tensors["map.bias"] = test::seeded("bias", {37});
  return source;
}

/// The same with packed weights, as a file holds them.
test::TensorSource packed_source(int bits) {
  test::TensorSource source = source_of_net();
  for (const std::string name : {"table.weight", "map.weight"}) {
    const auto weight = packed(source.tensors[name], bits);
    source.tensors.erase(name);
    source.tensors[name + ".codes"] = weight->parts().codes;
    source.tensors[name + ".scales"] = weight->parts().scales;
    source.tensors[name + ".units"] = weight->parts().units;
  }
  return source;
}

template <typename Action>
bool refuses(const Action& action) {
  return test::error_of(base::ExitCode::data, action) != "(no error)";
}

double relative_error(const at::Tensor& got, const at::Tensor& wanted) {
  return ((got - wanted).square().sum() / wanted.square().sum()).sqrt().item<double>();
}

}  // namespace

TEST_CASE("a packed product is near the dense one; rows are the same in any number") {
  const at::NoGradGuard no_grad;
  for (const int bits : {8, 4})
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      const auto weight = test::seeded("w", {150, 100}), bias = test::seeded("b", {150}).to(type);
      const auto x = test::seeded("x", {90, 100}).to(type);
      nn::Linear map(100, 150, true);
      map.bias.set_data(bias);
      map.quantise(packed(weight, bits));
      const auto y = map.forward(x, /*f32_result=*/true);
      CHECK(relative_error(y, at::linear(x.to(at::kFloat), weight, bias.to(at::kFloat))) < (bits == 8 ? 0.01 : 0.1));
      // What the codes stand for, and activations in 8 bits: that alone.
      CHECK(relative_error(y, at::linear(x.to(at::kFloat), map.dense_weight(at::kFloat), bias.to(at::kFloat))) < 0.008);
      CHECK((map.forward(x).scalar_type() == type));
      for (const std::int64_t rows : {1, 3, 64, 65})
        CHECK(at::equal(map.forward(x.slice(0, 90 - rows), true), y.slice(0, 90 - rows)));
      at::set_num_threads(1);
      CHECK(at::equal(map.forward(x, true), y));
      at::set_num_threads(2);
      CHECK(at::equal(map.forward(x.view({9, 10, 100}), true).view({90, 150}), y));
    }
}

TEST_CASE("where a gradient is wanted the packed weight is what it stands for") {
  const auto weight = packed(test::seeded("w", {20, 50}), 4);
  nn::Linear map(50, 20);
  map.quantise(weight);
  auto x = test::seeded("x", {3, 50}).requires_grad_(true);
  const auto y = map.forward(x);
  CHECK(at::allclose(y, at::linear(x, weight->dequantise(at::kFloat)), 1e-5, 1e-5));
  torch::autograd::backward({y.sum()}, {});
  CHECK(at::allclose(x.grad(), at::matmul(at::ones({3, 20}), weight->dequantise(at::kFloat)), 1e-5, 1e-5));
}

TEST_CASE("dequantised rows, and a table of them") {
  const at::NoGradGuard no_grad;
  for (const int bits : {8, 4}) {
    const auto dense = test::seeded("w", {40, 70});
    const auto weight = packed(dense, bits);
    const auto all = weight->dequantise(at::kFloat);
    CHECK(relative_error(all, dense) < (bits == 8 ? 0.006 : 0.09));
    CHECK(at::equal(weight->dequantise(at::kFloat, 13, 33), all.slice(0, 13, 33)));
    CHECK(at::equal(weight->dequantise(at::kHalf), all.to(at::kHalf)));
    nn::Embedding table(40, 70, 3);
    table.quantise(weight, at::kFloat);
    const auto ids = at::tensor(std::vector<std::int64_t>{39, 0, 17, 17}).view({2, 2});
    CHECK(at::equal(table.forward(ids), at::embedding(all, ids) * 3));
  }
}

TEST_CASE("the result of quantising does not depend on the threads; parts can be let go between") {
  const auto weight = test::seeded("large", {700, 130});
  const auto first = packed(weight, 4);
  at::set_num_threads(1);
  int parts = 0;
  const auto second = GroupQuantisedWeight::quantise(weight, {4, 32}, "w", {}, [&] { ++parts; });
  at::set_num_threads(2);
  CHECK(at::equal(first->parts().codes, second->parts().codes));
  CHECK(at::equal(first->parts().scales, second->parts().scales));
  CHECK(at::equal(first->parts().units, second->parts().units));
  CHECK(parts >= 1);
  CHECK(first->bytes() == static_cast<std::int64_t>(first->parts().codes.nbytes() + first->parts().scales.nbytes() +
                                                    first->parts().units.nbytes()));
  CHECK(GroupQuantisedWeight::quantised_bytes(256000, 2304, {4, 32}) < 256000LL * 2304 * 4.53 / 8);
  CHECK(GroupQuantisedWeight::quantised_bytes(256000, 2304, {8, 32}) < 256000LL * 2304 * 8.27 / 8);
}

TEST_CASE("loading packs on the way, or takes what is packed: the same") {
  for (const int bits : {8, 4}) {
    Net rounded, read;
    auto source = source_of_net();
    nn::load_quantised(rounded, source, {}, at::kFloat, {bits, 32});
    auto packed_one = packed_source(bits);
    nn::load_quantised(read, packed_one, {}, at::kFloat, {});
    const at::NoGradGuard no_grad;
    const auto x = test::seeded("x", {3, 70});
    CHECK(at::equal(rounded.map->forward(x), read.map->forward(x)));
    const auto ids = at::tensor(std::vector<std::int64_t>{5, 39});
    CHECK(at::equal(rounded.table->forward(ids), read.table->forward(ids)));
    CHECK(read.map->in() == 70);
    // What --plan counts is what there is.
    Net counted;
    const std::int64_t bytes = nn::account_quantised(counted, source, {}, at::kFloat, {bits, 32});
    CHECK(bytes == rounded.map->quantised()->bytes() + rounded.table->quantised()->bytes() + 37 * 4);
  }
}

TEST_CASE("packed parts that are none are refused") {
  using Change = std::function<void(test::TensorSource&)>;
  const std::string map = "map.weight";
  const std::vector<std::pair<const char*, Change>> changes = {
      {"no scales", [&](auto& s) { s.tensors.erase(map + ".scales"); }},
      {"no units", [&](auto& s) { s.tensors.erase(map + ".units"); }},
      {"codes of another type", [&](auto& s) { s.tensors[map + ".codes"] = s.tensors[map + ".codes"].to(at::kChar); }},
      {"scales of another type",
       [&](auto& s) { s.tensors[map + ".scales"] = s.tensors[map + ".scales"].to(at::kFloat); }},
      {"units of another type", [&](auto& s) { s.tensors[map + ".units"] = s.tensors[map + ".units"].to(at::kHalf); }},
      {"a block less",
       [&](auto& s) { s.tensors[map + ".codes"] = s.tensors[map + ".codes"].slice(0, 1).contiguous(); }},
      {"a group less",
       [&](auto& s) { s.tensors[map + ".codes"] = s.tensors[map + ".codes"].slice(1, 1).contiguous(); }},
      {"shorter lines",
       [&](auto& s) { s.tensors[map + ".codes"] = s.tensors[map + ".codes"].slice(2, 1).contiguous(); }},
      {"flat codes", [&](auto& s) { s.tensors[map + ".codes"] = s.tensors[map + ".codes"].flatten(); }},
      {"a scale less",
       [&](auto& s) { s.tensors[map + ".scales"] = s.tensors[map + ".scales"].slice(2, 1).contiguous(); }},
      {"scales of a block less",
       [&](auto& s) { s.tensors[map + ".scales"] = s.tensors[map + ".scales"].slice(0, 1).contiguous(); }},
      {"scales of a group less",
       [&](auto& s) { s.tensors[map + ".scales"] = s.tensors[map + ".scales"].slice(1, 1).contiguous(); }},
      {"units of a block less",
       [&](auto& s) { s.tensors[map + ".units"] = s.tensors[map + ".units"].slice(0, 1).contiguous(); }},
      {"an infinite unit", [&](auto& s) { s.tensors[map + ".units"][1][3] = INFINITY; }},
      {"no unit", [&](auto& s) { s.tensors[map + ".units"][0][0] = NAN; }},
      {"a table of another size",
       [&](auto& s) { s.tensors["table.weight.codes"] = at::zeros({4, 3, 256}, at::kByte); }},
      {"no weight at all", [&](auto& s) { s.tensors.erase(map + ".codes"); }},
  };
  for (const int bits : {8, 4})
    for (const auto& [what, change] : changes) {
      CAPTURE(bits);
      CAPTURE(what);
      auto source = packed_source(bits);
      change(source);
      Net net;
      CHECK(refuses([&] { nn::load_quantised(net, source, {}, at::kFloat, {}); }));
    }
  auto source = source_of_net();
  source.tensors["map.weight"][3][5] = NAN;
  Net net;
  CHECK(refuses([&] { nn::load_quantised(net, source, {}, at::kFloat, {4, 32}); }));
}

TEST_CASE("GPTQ: with inputs that tell nothing it rounds to the nearest; with such that do it beats that") {
  const at::NoGradGuard no_grad;
  const auto weight = test::seeded("w", {48, 96});
  for (const int bits : {8, 4}) {
    const auto plain = packed(weight, bits)->dequantise(at::kFloat);
    const auto same = nn::quantise_gptq(weight, {bits, 32}, at::eye(96), "w")->dequantise(at::kFloat);
    // Its rows' units have room, so scales are a little coarser.
    CHECK(relative_error(same, weight) < 1.1 * relative_error(plain, weight));
    // Inputs of 20 directions.
    const auto x = at::matmul(test::seeded("x", {500, 20}), test::seeded("mix", {20, 96})) +
                   0.05 * test::seeded("noise", {500, 96});
    nn::InputMoments moments;
    moments.add(x.slice(0, 0, 200));
    moments.add(x.slice(0, 200));
    CHECK(moments.rows() == 500);
    CHECK(at::allclose(moments.mean(), at::matmul(x.t(), x) / 500, 1e-4, 1e-4));
    const auto fitted = nn::quantise_gptq(weight, {bits, 32}, moments.mean(), "w");
    CHECK(fitted->shape().bits == bits);
    const auto wanted = at::linear(x, weight);
    CHECK(relative_error(at::linear(x, fitted->dequantise(at::kFloat)), wanted) <
          0.6 * relative_error(at::linear(x, plain), wanted));
  }
}

TEST_CASE("GPTQ: rows and columns that fill nothing, columns without input, damaged numbers") {
  const at::NoGradGuard no_grad;
  auto x = test::seeded("x", {60, 70});
  x.slice(1, 10, 20).zero_();
  nn::InputMoments moments;
  moments.add(x);
  for (const int bits : {8, 4}) {
    const auto weight = test::seeded("w", {37, 70});
    const auto made = nn::quantise_gptq(weight, {bits, 64}, moments.mean(), "w");
    CHECK(relative_error(made->dequantise(at::kFloat), weight) < (bits == 8 ? 0.02 : 0.3));
    const auto y = at::linear(x, weight);
    CHECK(relative_error(at::linear(x, made->dequantise(at::kFloat)), y) < (bits == 8 ? 0.01 : 0.12));
    auto damaged = weight.clone();
    damaged[36][69] = NAN;
    CHECK(refuses([&] { nn::quantise_gptq(damaged, {bits, 64}, moments.mean(), "w"); }));
    auto infinite = moments.mean();
    infinite[3][3] = INFINITY;
    CHECK(refuses([&] { nn::quantise_gptq(weight, {bits, 64}, infinite, "w"); }));
  }
}
