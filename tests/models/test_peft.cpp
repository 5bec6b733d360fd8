// Adapters against Python's peft: the folders and goldens come from scripts/fixtures/peft.py.
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include "io/safetensors.h"
#include "io/weight_source.h"
#include "models/adapters/peft.h"
#include "models/gemma/names.h"
#include "nn/linear.h"
#include "nn/nf4.h"
#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/scratch.h"

namespace {

using namespace atelier;
using models::adapters::PeftAdapter;
using models::adapters::PeftConfig;
using models::gemma::CausalLm;
namespace fs = std::filesystem;

std::string data(const std::string& name) { return std::string(ATELIER_TEST_DATA) + "/" + name; }

std::shared_ptr<CausalLm> open_model(const std::string& folder, at::ScalarType dtype = at::kFloat) {
  const auto config = models::gemma::parse_config(base::read_json_file(folder + "/config.json"), "config.json");
  auto model = std::make_shared<CausalLm>(config);
  auto source = io::WeightSource::open(folder);
  nn::load_parameters(*model, *source, models::gemma::Names(*source, config.tied_head), dtype, at::kCPU);
  return model;
}

std::shared_ptr<CausalLm> open_base(const std::string& name, at::ScalarType dtype = at::kFloat) {
  return open_model(data("gemma/" + name), dtype);
}

at::Tensor golden(const std::string& name) {
  return io::WeightSource::open(data("peft/goldens.safetensors"))
      ->load(name, name == "prompt" ? at::kInt : at::kFloat, at::kCPU);
}

at::Tensor logits(const CausalLm& model) {
  const at::NoGradGuard no_grad;
  const auto prompt = golden("prompt");
  auto cache = model.new_cache();
  nn::KvCache* const caches[] = {&cache};
  const std::span<const std::int32_t> tokens(prompt.const_data_ptr<std::int32_t>(), 24);
  return model.logits(model.forward({tokens, caches}));
}

double difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

PeftAdapter load(CausalLm& model, const std::string& name, double scale = 1) {
  return models::adapters::load_peft(model, data("peft/" + name), scale);
}

struct Case {
  const char *name, *base;
};
const Case cases[] = {{"lora1", "gemma1"},       {"dora1", "gemma1"},      {"linear2", "gemma2"},
                      {"dora2", "gemma2"},       {"regex2", "gemma2"},     {"vocab2", "gemma2"},
                      {"dora-vocab2", "gemma2"}, {"embedding2", "gemma2"}, {"saved2", "gemma2"},
                      {"patterns3", "gemma3"},   {"dora3", "gemma3"},      {"multimodal3", "gemma3-multimodal"}};

/// A copy of an adapter's folder with one key of its configuration changed.
std::string changed(const test::Scratch& scratch, const std::string& name,
                    const std::function<void(base::Json&)>& change) {
  const std::string folder = scratch.file("changed");
  fs::remove_all(folder);
  fs::copy(data("peft/" + name), folder);
  auto json = base::read_json_file(folder + "/adapter_config.json");
  change(json);
  std::ofstream(folder + "/adapter_config.json") << json.dump();
  return folder;
}

}  // namespace

TEST_CASE("logits with an adapter equal peft's within 1e-4") {
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const auto model = open_base(c.base);
    const auto plain = logits(*model);
    const auto adapter = load(*model, c.name);
    CHECK(difference(logits(*model), golden(c.name)) < 1e-4);
    MESSAGE(std::string(c.name) << ": largest difference " << difference(logits(*model), golden(c.name)));
    CHECK(difference(plain, golden(c.name)) > 1e-2);
    models::adapters::detach(*model, adapter);
    if (adapter.whole.empty()) CHECK(at::equal(logits(*model), plain));
  }
}

TEST_CASE("several adapters with scales equal peft's, in either order") {
  const struct {
    const char* first;
    double x;
    const char* second;
    double y;
    const char* golden;
  } pairs[] = {{"linear2", 0.5, "regex2", -1.5, "linear2*0.5+regex2*-1.5"},
               {"dora2", 1.25, "linear2", 0.75, "dora2*1.25+linear2*0.75"},
               {"linear2", 0.75, "dora2", 1.25, "linear2*0.75+dora2*1.25"},
               {"vocab2", 0.5, "dora2", 2.0, "vocab2*0.5+dora2*2.0"}};
  for (const auto& pair : pairs) {
    CAPTURE(pair.golden);
    const auto model = open_base("gemma2");
    const auto first = load(*model, pair.first, pair.x), second = load(*model, pair.second, pair.y);
    CHECK(difference(logits(*model), golden(pair.golden)) < 1e-4);
    first.set_active(false);
    const auto other = open_base("gemma2");
    load(*other, pair.second, pair.y);
    CHECK(at::equal(logits(*model), logits(*other)));
  }
}

TEST_CASE("a decoding step with adapters is the same bit for bit alone and in a batch") {
  const at::NoGradGuard no_grad;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto model = open_base("gemma2", dtype);
    load(*model, "vocab2", 0.5);
    load(*model, "dora2");
    const auto prompt = golden("prompt");
    const auto* tokens = prompt.const_data_ptr<std::int32_t>();
    constexpr int batch = 13;
    std::vector<nn::KvCache> together, alone;
    std::vector<nn::KvCache*> caches;
    for (int b = 0; b < batch; ++b) {
      together.push_back(model->new_cache());
      alone.push_back(model->new_cache());
    }
    for (auto& cache : together) caches.push_back(&cache);
    for (int round = 0; round < 3; ++round) {
      std::vector<std::int32_t> row(tokens + round, tokens + round + batch);
      const auto all = model->logits(model->forward({row, caches}));
      for (int b = 0; b < batch; ++b) {
        nn::KvCache* const one[] = {&alone[b]};
        CHECK(at::equal(all[b], model->logits(model->forward({std::span(row).subspan(b, 1), one}))[0]));
      }
    }
  }
}

TEST_CASE("what is saved loads again with the same logits, names as peft's") {
  const test::Scratch scratch;
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const auto model = open_base(c.base);
    const auto adapter = load(*model, c.name);
    models::adapters::save_peft(scratch.file("saved"), adapter);
    const auto again = open_base(c.base);
    models::adapters::load_peft(*again, scratch.file("saved"));
    CHECK(at::equal(logits(*again), logits(*model)));
    auto theirs = io::WeightSource::open(data(std::string("peft/") + c.name + "/adapter_model.safetensors"));
    auto ours = io::WeightSource::open(scratch.file("saved") + "/adapter_model.safetensors");
    std::set<std::string> names;
    for (const auto& name : theirs->names())
      if (name.find("base_layer") == std::string::npos) names.insert(name);
    const auto written = ours->names();
    CHECK(names == std::set<std::string>(written.begin(), written.end()));
  }
}

TEST_CASE("a new adapter changes nothing, has peft's values and learns") {
  const auto model = open_base("gemma2");
  const auto plain = logits(*model);
  for (const bool dora : {false, true}) {
    CAPTURE(dora);
    PeftConfig config;
    config.r = 4;
    config.use_dora = dora;
    config.target_modules.names = {"q_proj", "down_proj", "embed_tokens"};
    const auto adapter = models::adapters::attach(*model, config, at::detail::createCPUGenerator(7));
    CHECK(adapter.targets.size() == 9);
    CHECK(difference(logits(*model), plain) < 1e-5);
    CHECK(adapter.tensors().size() == (dora ? 27 : 18));
    for (const auto& target : adapter.targets) {
      const auto& a = target.adapter->lora_a;
      CHECK(a.requires_grad());
      if (target.embedding) {
        CHECK(a.abs().max().item<double>() == 0);
        CHECK(std::abs(target.adapter->lora_b.std().item<double>() - 1) < 0.2);
      } else {
        const double bound = 1 / std::sqrt(static_cast<double>(a.size(1)));
        CHECK(a.abs().max().item<double>() <= bound);
        CHECK(a.abs().max().item<double>() > 0.9 * bound);
        CHECK(target.adapter->lora_b.abs().max().item<double>() == 0);
      }
    }
    models::adapters::detach(*model, adapter);
    CHECK(at::equal(logits(*model), plain));
  }
  PeftConfig none;
  none.target_modules.names = {"w1"};
  CHECK(test::error_of(base::ExitCode::data, [&] {
          models::adapters::attach(*model, none, at::detail::createCPUGenerator(7));
        }) == "the adapter: \"target_modules\" selects no module of the model");
}

TEST_CASE("every key that asks for something unsupported is refused by name") {
  const test::Scratch scratch;
  const std::pair<const char*, base::Json> wrong[] = {
      {"peft_type", "IA3"},
      {"task_type", "SEQ_CLS"},
      {"r", 0},
      {"r", 2.5},
      {"r", "8"},
      {"lora_alpha", "16"},
      {"lora_dropout", 1},
      {"lora_dropout", -0.1},
      {"target_modules", base::Json::array()},
      {"target_modules", nullptr},
      {"target_modules", base::Json::array({3})},
      {"target_modules", "(q_proj"},
      {"target_modules", "(?i)Q_PROJ"},
      {"target_modules", "model\\.layers\\.\\Zq_proj"},
      {"target_modules", "((((a{30}){30}){30}){30})"},
      {"target_modules", std::string(100000, '(')},
      {"exclude_modules", "["},
      {"bias", "some"},
      {"fan_in_fan_out", true},
      {"use_rslora", "yes"},
      {"use_dora", 1},
      {"modules_to_save", base::Json::array({"lm_head"})},
      {"init_lora_weights", "pissa"},
      {"init_lora_weights", "pissa_niter_4"},
      {"init_lora_weights", "olora"},
      {"init_lora_weights", "corda"},
      {"init_lora_weights", "loftq"},
      {"init_lora_weights", "lora_ga"},
      {"init_lora_weights", "mica"},
      {"layers_to_transform", -1},
      {"layers_to_transform", base::Json::array({"0"})},
      {"layers_pattern", "layers"},
      {"rank_pattern", base::Json::object({{"q_proj", 0}})},
      {"rank_pattern", base::Json::object({{"(q_proj", 4}})},
      {"rank_pattern", base::Json::object({{"q_proj", 2.5}})},
      {"alpha_pattern", base::Json::object({{"q_proj", "a"}})},
      {"alora_invocation_tokens", base::Json::array({1, 2})},
      {"arrow_config", base::Json::object({{"top_k", 3}})},
      {"corda_config", base::Json::object({{"cache_file", "x"}})},
      {"ensure_weight_tying", true},
      {"eva_config", base::Json::object({{"rho", 2.0}})},
      {"kasa_config", base::Json::object({{"beta", 1}})},
      {"layer_replication", base::Json::array({base::Json::array({0, 2})})},
      {"loftq_config", base::Json::object({{"loftq_bits", 4}})},
      {"lora_bias", true},
      {"lora_ga_config", base::Json::object({{"direction", "random"}})},
      {"megatron_config", base::Json::object({{"x", 1}})},
      {"monteclora_config", base::Json::object({{"x", 1}})},
      {"target_parameters", base::Json::array({"experts.down_proj"})},
      {"trainable_token_indices", base::Json::array({1})},
      {"use_bdlora", base::Json::object({{"nblocks", 2}})},
      {"use_qalora", true},
      {"velora_config", base::Json::object({{"scale", 1}})},
      {"key_of_the_future", 1},
  };
  for (const auto& [key, value] : wrong) {
    CAPTURE(key);
    CAPTURE(value.dump().substr(0, 80));
    const auto folder = changed(scratch, "lora1", [&](base::Json& json) { json[key] = value; });
    const auto model = open_base("gemma1");
    const auto plain = logits(*model);
    const auto message = test::error_of(base::ExitCode::data, [&] { models::adapters::load_peft(*model, folder); });
    CHECK_MESSAGE(test::contains(message, std::string("\"") + key + "\""), message);
    CHECK(message.size() < 300);
    CHECK(at::equal(logits(*model), plain));
  }
}

TEST_CASE("neutral values and what only says where an adapter comes from are accepted") {
  const test::Scratch scratch;
  const auto model = open_base("gemma1");
  const auto folder = changed(scratch, "lora1", [](base::Json& json) {
    for (const char* key : {"lora_bias", "use_qalora", "key_of_the_future"}) json[key] = false;
    json["another"] = base::Json::object();
    json["runtime_config"] = {{"ephemeral_gpu_offload", true}};
    json["revision"] = "main";
    json["init_lora_weights"] = "eva";
    json["eva_config"] = {{"rho", 2.0}};
    json["bias"] = "all";
    json.erase("peft_version");
    json["inference_mode"] = false;
  });
  models::adapters::load_peft(*model, folder);
  CHECK(difference(logits(*model), golden("lora1")) < 1e-4);
}

TEST_CASE("adapters for other models, and folders that are none") {
  const test::Scratch scratch;
  const auto fails = [&](const char* base, const std::string& folder, base::ExitCode code) {
    const auto model = open_base(base);
    return test::error_of(code, [&] { models::adapters::load_peft(*model, folder); });
  };
  const auto data_error = base::ExitCode::data, no_input = base::ExitCode::no_input;
  // Another width: the tensor and both shapes.
  const auto lora1 = data("peft/lora1");
  auto narrow = base::read_json_file(data("gemma/gemma1/config.json"));
  narrow["hidden_size"] = 64;
  CausalLm other(models::gemma::parse_config(narrow, "config.json"));
  CHECK(test::error_of(data_error, [&] { models::adapters::load_peft(other, lora1); }) ==
        lora1 +
            "/adapter_model.safetensors: tensor \"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight\" has "
            "shape [3, 52], the model and the adapter's configuration want [3, 64]");
  // More layers than the model has, and fewer.
  CHECK(test::contains(fails("gemma1", data("peft/linear2"), data_error), "layers.3."));
  CHECK(test::contains(fails("gemma2", lora1, data_error), "no tensor \"base_model.model.model.layers.3.self_attn."));
  CHECK(test::contains(fails("gemma1", changed(scratch, "lora1", [](base::Json& j) { j["r"] = 4; }), data_error),
                       "has shape [3, 52], the model and the adapter's configuration want [4, 52]"));
  CHECK(test::contains(
      fails("gemma1", changed(scratch, "dora1", [](base::Json& j) { j["use_dora"] = false; }), data_error),
      "use_dora"));
  CHECK(test::contains(
      fails("gemma1", changed(scratch, "lora1", [](base::Json& j) { j["use_dora"] = true; }), data_error),
      "lora_magnitude_vector"));
  CHECK(test::contains(
      fails("gemma1",
            changed(scratch, "lora1", [](base::Json& j) { j["target_modules"] = base::Json::array({"q_proj"}); }),
            data_error),
      "is for a module that adapter_config.json does not select"));
  CHECK(test::contains(
      fails("gemma1",
            changed(scratch, "lora1", [](base::Json& j) { j["target_modules"] = base::Json::array({"mlp"}); }),
            data_error),
      "\"model.layers.0.mlp\" is no linear map"));
  CHECK(test::contains(
      fails("gemma2", changed(scratch, "saved2", [](base::Json& j) { j["modules_to_save"] = nullptr; }), data_error),
      "modules_to_save"));
  CHECK(test::contains(fails("gemma1", scratch.file("nowhere"), no_input), "no such adapter folder"));
  CHECK(test::contains(fails("gemma1", lora1 + "/adapter_config.json", no_input), "not a folder"));
  CHECK(test::contains(fails("gemma1", data("gemma/gemma1"), no_input), "no adapter_config.json"));
  const auto folder = changed(scratch, "lora1", [](base::Json&) {});
  fs::resize_file(folder + "/adapter_model.safetensors", 900);
  CHECK(test::contains(fails("gemma1", folder, data_error), "adapter_model.safetensors"));
  fs::remove(folder + "/adapter_model.safetensors");
  CHECK(test::contains(fails("gemma1", folder, no_input), "no adapter_model.safetensors"));
  test::put_file(folder + "/adapter_config.json", "[1]");
  test::put_file(folder + "/adapter_model.safetensors", "");
  CHECK(test::contains(fails("gemma1", folder, data_error), "not a JSON object"));
}

TEST_CASE("a model in NF4 computes with the rounded weights, and takes adapters") {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"gemma2", "gemma3-multimodal"}) {
    CAPTURE(name);
    const std::string folder = data("gemma/" + name);
    const auto config = models::gemma::parse_config(base::read_json_file(folder + "/config.json"), "config.json");
    CausalLm quantised(config);
    auto source = io::WeightSource::open(folder);
    const models::gemma::Names names(*source, config.tied_head);
    names.note_ignored(*source);
    nn::load_nf4(quantised, *source, names, at::kFloat, at::kCPU, "model.layers.");
    CHECK(source->missing().empty());
    CHECK(source->unused().empty());
    const auto rounded = open_base(name);
    int count = 0;
    for (const auto& entry : rounded->named_modules())
      if (auto* linear = entry.value()->as<nn::Linear>(); linear && entry.key() != "lm_head") {
        linear->weight.set_data(nn::Nf4Weight::quantise(linear->weight)->dequantise(at::kFloat));
        CHECK(quantised.named_modules()[entry.key()]->as<nn::Linear>()->quantised());
        ++count;
      }
    CHECK(count == 7 * config.layers);
    CHECK(at::equal(logits(quantised), logits(*rounded)));
    PeftConfig adapter;
    adapter.use_dora = true;
    adapter.target_modules.expression = "all-linear";
    for (CausalLm* model : {&quantised, rounded.get()}) {
      const auto made = models::adapters::attach(*model, adapter, at::detail::createCPUGenerator(3));
      for (const auto& target : made.targets) target.adapter->lora_b.fill_(0.1);
    }
    CHECK(difference(logits(quantised), logits(*rounded)) < 1e-5);
  }
}
