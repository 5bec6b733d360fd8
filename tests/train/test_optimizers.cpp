// Optimisers against torch.optim, transformers and the papers' formulas; goldens from scripts/fixtures/train.py.
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "base/json.h"
#include "io/weight_source.h"
#include "nn/quantised_blocks.h"
#include "train/optimizer.h"
#include "train/run_state.h"

#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/scratch.h"
#include "support/seeded.h"

namespace {

using namespace atelier;
using namespace atelier::train;
using base::ExitCode;
using nn::dequantise;
using nn::dynamic_tree;
using nn::quantise;
using nn::QuantisedBlocks;
using test::error_of;

const std::string folder = std::string(ATELIER_TEST_DATA) + "/train";
const std::vector<std::pair<std::string, std::vector<std::int64_t>>> kShapes{
    {"matrix", {6, 9}}, {"vector", {7}}, {"big", {65, 79}}};

std::vector<Parameter> make_parameters(at::ScalarType dtype = at::kFloat) {
  std::vector<Parameter> parameters;
  for (const auto& [name, shape] : kShapes) {
    parameters.push_back({name, test::seeded("train." + name, shape).to(dtype).requires_grad_(true)});
  }
  return parameters;
}

void set_gradients(std::vector<Parameter>& parameters, int step) {
  for (Parameter& parameter : parameters) {
    const at::Tensor noise = test::seeded(fmt::format("train.{}.{}", parameter.name, step), parameter.tensor.sizes());
    parameter.tensor.mutable_grad() =
        (noise + parameter.tensor.detach().to(at::kFloat) / 2).to(parameter.tensor.scalar_type());
  }
}

OptimizerOptions options_of(const base::Json& item) {
  OptimizerOptions options;
  options.kind = optimizer_kind(item["kind"].get<std::string>());
  const base::Json& given = item["options"];
  options.weight_decay = given.value("weight_decay", options.weight_decay);
  options.eps = given.value("eps", options.eps);
  options.clip_threshold = given.value("clip_threshold", options.clip_threshold);
  options.scale_parameter = given.value("scale_parameter", options.scale_parameter);
  if (given.contains("beta1")) options.beta1 = given["beta1"].get<double>();
  if (given.contains("beta2")) options.beta2 = given["beta2"].get<double>();
  return options;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

}  // namespace

TEST_CASE("ten steps equal the reference") {
  const base::Json all = base::read_json_file(folder + "/optimizers.json");
  const auto values = io::WeightSource::open(folder + "/optimizers.safetensors");
  for (const base::Json& item : all["cases"]) {
    const auto name = item["name"].get<std::string>();
    CAPTURE(name);
    std::vector<Parameter> parameters = make_parameters();
    const auto optimizer = make_optimizer(parameters, options_of(item));
    for (int step = 0; step < all["steps"]; ++step) {
      set_gradients(parameters, step);
      optimizer->step(all["lr"].get<double>() / (1 + step));
    }
    for (const Parameter& parameter : parameters) {
      CAPTURE(parameter.name);
      const at::Tensor expected = values->load(name + "." + parameter.name, at::kFloat, at::kCPU);
      at::Tensor got = parameter.tensor.detach();
      if (parameter.name == "big") got = got.flatten().slice(0, 0, std::nullopt, all["sparse"].get<int>());
      const double difference = largest_difference(got, expected);
      MESSAGE(name << " " << parameter.name << ": " << difference);
      CHECK(difference < 2e-6);
    }
  }
}

TEST_CASE("a step counts as a write, so that what is kept of a weight is known to be old") {
  for (const char* kind : {"adamw", "adamw8bit", "adafactor", "lion", "sgd"}) {
    CAPTURE(kind);
    std::vector<Parameter> parameters = make_parameters();
    const auto optimizer = make_optimizer(parameters, {.kind = optimizer_kind(kind)});
    set_gradients(parameters, 0);
    std::vector<std::int64_t> writes;
    for (const Parameter& parameter : parameters) writes.push_back(parameter.tensor._version());
    optimizer->step(0.1);
    for (std::size_t i = 0; i < parameters.size(); ++i) CHECK(parameters[i].tensor._version() > writes[i]);
  }
}

TEST_CASE("the dynamic tree is the reference's") {
  const auto values = io::WeightSource::open(folder + "/optimizers.safetensors");
  for (const bool with_sign : {true, false}) {
    const at::Tensor tree = dynamic_tree(with_sign);
    CHECK(tree.size(0) == 256);
    CHECK(largest_difference(tree, values->load(with_sign ? "tree.signed" : "tree.unsigned", at::kFloat, at::kCPU)) <
          1e-7);
  }
}

TEST_CASE("quantised blocks: the values of the tree come back exact, others to the nearest") {
  const at::Tensor tree = dynamic_tree(true);
  const at::Tensor exact = tree * 3;  // 3 is in it, and so is the scale
  CHECK(at::equal(dequantise(quantise(exact, tree), tree), exact));
  const at::Tensor values = test::seeded("blocks", {1000}, 0.01);
  const QuantisedBlocks blocks = quantise(values, tree);
  CHECK(blocks.absmax.size(0) == 4);
  const at::Tensor back = dequantise(blocks, tree);
  const at::Tensor share = values / blocks.absmax.repeat_interleave(256).narrow(0, 0, 1000);
  const at::Tensor nearest = std::get<0>((share.unsqueeze(1) - tree).abs().min(1));
  CHECK(largest_difference((back - values).abs(), nearest * blocks.absmax.repeat_interleave(256).narrow(0, 0, 1000)) <
        1e-8);
  CHECK(at::equal(dequantise(quantise(at::zeros({300}), tree), tree), at::zeros({300})));
}

TEST_CASE("a saved and loaded optimiser goes on bit for bit") {
  for (const char* kind : {"adamw", "adamw8bit", "adafactor", "lion", "sgd"}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      CAPTURE(kind);
      const test::Scratch scratch;
      const OptimizerOptions options{.kind = optimizer_kind(kind), .weight_decay = 0.1, .beta1 = 0.9, .beta2 = {}};
      std::vector<Parameter> parameters = make_parameters(dtype), others = make_parameters(dtype);
      const auto optimizer = make_optimizer(parameters, options);
      for (int step = 0; step < 3; ++step) {
        set_gradients(parameters, step);
        optimizer->step(1e-2);
      }
      RunState saved;
      saved.optimizer = optimizer->state();
      const RunState loaded = Checkpoints::load(Checkpoints(scratch.path()).save(saved));
      const auto other = make_optimizer(others, options);
      other->load_state(loaded.optimizer);
      for (std::size_t i = 0; i < parameters.size(); ++i)
        others[i].tensor.set_data(parameters[i].tensor.detach().clone());
      for (int step = 3; step < 6; ++step) {
        for (auto* list : {&parameters, &others}) set_gradients(*list, step);
        optimizer->step(1e-2);
        other->step(1e-2);
      }
      for (std::size_t i = 0; i < parameters.size(); ++i) CHECK(at::equal(parameters[i].tensor, others[i].tensor));
      for (const auto& [name, tensor] : optimizer->state()) CHECK(at::equal(tensor, other->state().at(name)));
    }
  }
}

TEST_CASE("steps below a half precision parameter's resolution add up in its f32 copy") {
  const auto after = [](bool master_weights) {
    std::vector<Parameter> parameters{{"w", at::full({4}, 1, at::kBFloat16).requires_grad_(true)}};
    const auto optimizer = make_optimizer(parameters, {.kind = OptimizerKind::sgd, .master_weights = master_weights});
    parameters[0].tensor.mutable_grad() = at::full({4}, 1, at::kBFloat16);
    for (int i = 0; i < 100; ++i) optimizer->step(1e-4);
    return parameters[0].tensor.detach().to(at::kFloat)[0].item<float>();
  };
  CHECK(after(true) == doctest::Approx(0.99).epsilon(0.004));
  CHECK(after(false) == 1);
}

TEST_CASE("rates and decay of a parameter, and parameters without a gradient") {
  std::vector<Parameter> parameters{{"fast", at::full({1}, 1.0f).requires_grad_(true), 2, false},
                                    {"slow", at::full({1}, 1.0f).requires_grad_(true), 1, true},
                                    {"still", at::full({1}, 1.0f).requires_grad_(true)}};
  const auto optimizer = make_optimizer(parameters, {.kind = OptimizerKind::sgd, .weight_decay = 0.5});
  for (int i = 0; i < 2; ++i) parameters[static_cast<std::size_t>(i)].tensor.mutable_grad() = at::full({1}, 1.0f);
  optimizer->step(0.1);
  CHECK(parameters[0].tensor.item<float>() == doctest::Approx(0.8));
  CHECK(parameters[1].tensor.item<float>() == doctest::Approx(0.85));
  CHECK(parameters[2].tensor.item<float>() == 1);
  CHECK_FALSE(optimizer->state().contains("still.step"));
  clear_gradients(parameters);
  CHECK(gradient_norm(parameters) == 0);
}

TEST_CASE("clipping is torch's") {
  std::vector<Parameter> parameters = make_parameters();
  for (Parameter& parameter : parameters) parameter.tensor.mutable_grad() = at::full(parameter.tensor.sizes(), 2.0f);
  const double norm = gradient_norm(parameters);
  CHECK(norm == doctest::Approx(2 * std::sqrt(54 + 7 + 65 * 79)));
  clip_gradients(parameters, norm, 0);
  CHECK(gradient_norm(parameters) == norm);
  clip_gradients(parameters, norm, 2 * norm);
  CHECK(gradient_norm(parameters) == norm);
  clip_gradients(parameters, norm, 1);
  CHECK(gradient_norm(parameters) == doctest::Approx(1));
  parameters[1].tensor.mutable_grad()[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(gradient_norm(parameters)));
}

TEST_CASE("states that do not fit are refused") {
  std::vector<Parameter> parameters = make_parameters();
  const auto adamw = make_optimizer(parameters, {}), sgd = make_optimizer(parameters, {.kind = OptimizerKind::sgd});
  set_gradients(parameters, 0);
  adamw->step(1e-2);
  const TensorMap good = adamw->state();
  TensorMap bad = good;
  bad.erase("big.exp_avg");
  CHECK(error_of(ExitCode::data, [&] { adamw->load_state(bad); }) == "the saved optimiser has no \"big.exp_avg\"");
  bad = good;
  bad["big.exp_avg"] = at::zeros({3});
  CHECK(test::contains(error_of(ExitCode::data, [&] { adamw->load_state(bad); }), "another shape"));
  CHECK(test::contains(error_of(ExitCode::data, [&] { sgd->load_state(good); }), "no use for"));
  CHECK(test::contains(error_of(ExitCode::usage, [&] { make_optimizer(parameters, {.beta1 = 1.0}); }), "beta"));
  CHECK(error_of(ExitCode::usage, [] { optimizer_kind("adanw"); }) == "unknown optimiser \"adanw\"");
}
