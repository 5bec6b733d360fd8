// Training Gemma against transformers and peft: the goldens come from scripts/fixtures/finetune.py.
#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <fmt/format.h>

#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "io/weight_source.h"
#include "models/adapters/peft.h"
#include "train/optimizer.h"
#include "train/text/task.h"

#include "gemma_folders.h"
#include "support/doctest_last.h"
#include "support/seeded.h"

namespace {

using namespace atelier;
using namespace atelier::train;
using namespace atelier::train::text_data;
using models::gemma::CausalLm;
using models::gemma::Recompute;

constexpr int kSteps = 10, kRows = 3;

std::string golden_path(const std::string& name) {
  return std::string(ATELIER_TEST_DATA) + "/finetune/" + name + ".safetensors";
}

std::vector<std::string> golden_names(const std::string& name) {
  const auto file = io::MappedFile::open(golden_path(name));
  const auto header = io::parse_safetensors(file->bytes(), name);
  std::istringstream words(header.metadata.at("names"));
  return {std::istream_iterator<std::string>(words), {}};
}

at::Tensor golden(const std::string& name, const std::string& tensor) {
  return io::WeightSource::open(golden_path(name))->load(tensor, at::kFloat, at::kCPU).clone();
}

/// The rows that scripts/fixtures/finetune.py trains on.
std::vector<Example> all_rows() {
  const auto source = io::WeightSource::open(golden_path("rows"));
  const auto tokens = source->load("tokens", at::kInt, at::kCPU),
             marks = source->load("supervised", at::kInt, at::kCPU),
             lengths = source->load("lengths", at::kInt, at::kCPU);
  std::vector<Example> rows;
  const auto* t = tokens.const_data_ptr<std::int32_t>();
  const auto* s = marks.const_data_ptr<std::int32_t>();
  for (std::int64_t i = 0; i < lengths.size(0); ++i) {
    const auto n = static_cast<std::size_t>(lengths[i].item<std::int32_t>());
    Example row;
    row.tokens.assign(t, t + n);
    for (std::size_t j = 0; j < n; ++j) row.supervised.push_back(s[j] != 0);
    rows.push_back(std::move(row));
    t += n;
    s += n;
  }
  return rows;
}

std::vector<Example> rows_of_step(int step) {
  static const std::vector<Example> rows = all_rows();
  return {rows.begin() + step * kRows, rows.begin() + (step + 1) * kRows};
}

std::int64_t tokens_of_step(int step) { return make_batch(rows_of_step(step), at::kCPU)->documents.tokens.size(0); }

at::Tensor loss_sum(const CausalLm& model, const TextBatch& batch, const Recompute& recompute = {},
                    std::int64_t chunk = 0) {
  const auto hidden = model.forward(batch.documents, recompute);
  return model.loss(hidden.index_select(0, batch.places), batch.targets, chunk);
}

/// All weights, as leaves, by name.
std::vector<Parameter> all_weights(CausalLm& model) {
  std::map<std::string, at::Tensor> sorted;
  for (auto& entry : model.named_parameters()) sorted[entry.key()] = entry.value().requires_grad_(true);
  std::vector<Parameter> parameters;
  for (const auto& [name, tensor] : sorted) parameters.push_back({name, tensor});
  return parameters;
}

/// Ten steps beside the golden ones: losses, the norm of each gradient, and eight of its elements in the first and last step.
void check_ten_steps(const std::string& name, const CausalLm& model, std::vector<Parameter> parameters) {
  CAPTURE(name);
  const auto names = golden_names(name);
  REQUIRE(names.size() == parameters.size());
  for (std::size_t i = 0; i < names.size(); ++i) REQUIRE(names[i] == parameters[i].name);
  const auto losses = golden(name, "loss"), norms = golden(name, "norms");
  const auto optimizer = make_optimizer(parameters, {.weight_decay = 0.01});
  double loss_error = 0, norm_error = 0, element_error = 0;
  for (int step = 0; step < kSteps; ++step) {
    const auto batch = make_batch(rows_of_step(step), at::kCPU);
    const auto loss = loss_sum(model, *batch) / batch->weight;
    loss.backward();
    loss_error = std::max(loss_error, std::abs(loss.item<double>() - losses[step].item<double>()));
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const auto gradient = parameters[i].tensor.grad();
      REQUIRE(gradient.defined());
      const double error = std::abs(gradient.norm().item<double>() - norms[step][static_cast<int>(i)].item<double>());
      norm_error = std::max(norm_error, error);
      if (step != 0 && step != kSteps - 1) continue;
      const auto elements = golden(name, step == 0 ? "first" : "last")[static_cast<int>(i)];
      for (std::int64_t e = 0; e < 8; ++e) {
        const double own = gradient.flatten()[e * gradient.numel() / 8].item<double>();
        element_error = std::max(element_error, std::abs(own - elements[e].item<double>()));
      }
    }
    clip_gradients(parameters, gradient_norm(parameters), 1);
    optimizer->step(1e-3);
    clear_gradients(parameters);
  }
  CHECK(loss_error < 1e-4);
  CHECK(norm_error < 1e-4);
  CHECK(element_error < 1e-4);
  MESSAGE(name << ": largest difference of losses " << loss_error << ", of norms " << norm_error << ", of elements "
               << element_error);
}

/// Gradients of the first step's rows.
std::vector<at::Tensor> gradients_of(CausalLm& model, const std::function<void()>& backward) {
  auto parameters = all_weights(model);
  clear_gradients(parameters);
  backward();
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters) gradients.push_back(parameter.tensor.grad().clone());
  clear_gradients(parameters);
  return gradients;
}

double largest_difference(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = (a[i] - b[i]).abs().max().item<double>();
    largest = std::isnan(d) ? INFINITY : std::max(largest, d);
  }
  return largest;
}

const char* const families[] = {"gemma1", "gemma2", "gemma3"};

}  // namespace

TEST_CASE("ten steps of all weights equal PyTorch's: losses and gradients within 1e-4") {
  for (const std::string family : families) {
    const auto model = test::load_gemma(family);
    check_ten_steps(family + ".full", *model, all_weights(*model));
  }
}

TEST_CASE("ten steps of LoRA, rsLoRA and DoRA equal peft's: losses and gradients within 1e-4") {
  for (const std::string family : families)
    for (const std::string method : {"lora", "rslora", "dora"}) {
      const auto model = test::load_gemma(family);
      models::adapters::PeftConfig config;
      config.r = 4;
      config.lora_alpha = 6;
      config.use_rslora = method == "rslora";
      config.use_dora = method == "dora";
      config.target_modules.names = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
      const auto adapter = models::adapters::attach(*model, config, at::detail::createCPUGenerator(1));
      std::map<std::string, at::Tensor> sorted;
      for (const auto& [name, tensor] : adapter.tensors()) {
        const at::NoGradGuard no_grad;
        const std::string plain = name.substr(std::string("base_model.model.").size());
        if (plain.ends_with("magnitude_vector")) {
          tensor.mul_(test::seeded(plain, tensor.sizes(), 0.1, 1));
        } else {
          tensor.copy_(test::seeded(plain, tensor.sizes(), 0.2));
        }
        sorted[plain] = tensor;
      }
      std::vector<Parameter> parameters;
      for (const auto& [name, tensor] : sorted) parameters.push_back({name, tensor});
      for (const auto& entry : model->named_parameters()) CHECK_FALSE(entry.value().requires_grad());
      check_ten_steps(family + "." + method, *model, parameters);
    }
}

TEST_CASE("adapters on embedding and head, dropped inputs: checkpointing changes no bit of their gradients") {
  for (const auto& [dora, quantised] : {std::pair(false, false), {false, true}, {true, false}, {true, true}}) {
    CAPTURE(dora);
    CAPTURE(quantised);
    // Nothing recomputed; all; all but the products of one layer; of every layer.
    const auto one_layer =
        static_cast<std::uint64_t>(tokens_of_step(0) * product_bytes(test::load_gemma("gemma2")->config(), 4));
    const Recompute ways[] = {
        {}, {.layers = true}, {.layers = true, .kept_bytes = one_layer}, {.layers = true, .kept_bytes = UINT64_MAX}};
    std::vector<std::vector<at::Tensor>> gradients;
    for (const Recompute& recompute : ways) {
      const auto model = test::load_gemma("gemma2", quantised);
      models::adapters::PeftConfig config;
      config.r = 3;
      config.lora_dropout = 0.3;
      config.use_dora = dora;
      config.target_modules.names = {"q_proj", "down_proj", "embed_tokens", "lm_head"};
      const auto adapter = models::adapters::attach(*model, config, at::detail::createCPUGenerator(1));
      for (const auto& target : adapter.targets) target.adapter->generator = at::Generator();
      {
        const at::NoGradGuard no_grad;
        for (const auto& [name, tensor] : adapter.tensors()) tensor.add_(test::seeded(name, tensor.sizes(), 0.1));
      }
      adapter.set_training(true);
      at::manual_seed(3);
      const auto batch = make_batch(rows_of_step(0), at::kCPU);
      (loss_sum(*model, *batch, recompute, 5) / batch->weight).backward();
      gradients.emplace_back();
      for (const auto& [name, tensor] : adapter.tensors()) {
        INFO(name);
        REQUIRE(tensor.grad().defined());
        gradients.back().push_back(tensor.grad());
      }
    }
    for (std::size_t way = 1; way < gradients.size(); ++way)
      for (std::size_t i = 0; i < gradients[0].size(); ++i) CHECK(at::equal(gradients[0][i], gradients[way][i]));
  }
}

TEST_CASE("the loss of the training pass is that of the pass through the cache") {
  const at::NoGradGuard no_grad;
  for (const std::string family : families) {
    const auto model = test::load_gemma(family);
    double expected = 0;
    const auto rows = rows_of_step(0);
    for (const Example& row : rows) {
      auto cache = model->new_cache();
      nn::KvCache* caches[] = {&cache};
      const auto logits = model->logits(model->forward({row.tokens, caches})).log_softmax(-1);
      for (std::size_t i = 1; i < row.tokens.size(); ++i)
        if (row.supervised[i]) expected -= logits[static_cast<int>(i) - 1][row.tokens[i]].item<double>();
    }
    const double found = loss_sum(*model, *make_batch(rows, at::kCPU)).item<double>();
    CHECK(found == doctest::Approx(expected).epsilon(1e-5));
  }
}

TEST_CASE("rows together have the loss and gradients of the rows one by one") {
  for (const std::string family : families) {
    CAPTURE(family);
    const auto model = test::load_gemma(family);
    double together = 0, alone = 0;
    const auto packed = gradients_of(*model, [&] {
      const auto loss = loss_sum(*model, *make_batch(rows_of_step(0), at::kCPU)) / 100;
      together = loss.item<double>();
      loss.backward();
    });
    const auto single = gradients_of(*model, [&] {
      for (const Example& row : rows_of_step(0)) {
        const auto loss = loss_sum(*model, *make_batch({row}, at::kCPU)) / 100;
        alone += loss.item<double>();
        loss.backward();
      }
    });
    CHECK(std::abs(together - alone) < 1e-5);
    CHECK(largest_difference(packed, single) < 1e-5);
  }
}

TEST_CASE("activation checkpointing changes no bit; chunks of the cross-entropy change nothing that counts") {
  for (const std::string family : families) {
    CAPTURE(family);
    const auto model = test::load_gemma(family);
    const auto batch = make_batch(rows_of_step(0), at::kCPU);
    const auto run = [&](const Recompute& recompute, std::int64_t chunk) {
      return gradients_of(*model, [&] { (loss_sum(*model, *batch, recompute, chunk) / batch->weight).backward(); });
    };
    const auto plain = run({}, 0), checkpointed = run({.layers = true, .kept_bytes = UINT64_MAX}, 0);
    for (std::size_t i = 0; i < plain.size(); ++i) CHECK(at::equal(plain[i], checkpointed[i]));
    for (const std::int64_t chunk : {1, 5, 16}) CHECK(largest_difference(plain, run({}, chunk)) < 1e-5);
  }
}
