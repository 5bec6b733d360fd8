// A merged model folder says what the model with its adapters says: the goldens come from scripts/fixtures/peft.py.
#include <string>

#include <ATen/core/grad_mode.h>

#include "io/weight_source.h"
#include "models/adapters/peft.h"
#include "models/gemma/names.h"
#include "pipelines/model_folder.h"

#include "support/doctest_last.h"
#include "support/scratch.h"

namespace {

using namespace atelier;
using models::gemma::CausalLm;
using pipelines::TextModelFiles;

std::string data(const std::string& name) { return std::string(ATELIER_TEST_DATA) + "/" + name; }

at::Tensor golden(const std::string& name) {
  return io::WeightSource::open(data("peft/goldens.safetensors"))
      ->load(name, name == "prompt" ? at::kInt : at::kFloat, at::kCPU);
}

TextModelFiles open_files(const std::string& folder) { return TextModelFiles::open(folder, {"cpu", "fp32"}); }

/// Without a tokenizer, which the folders of tests/data/gemma do not have.
std::shared_ptr<CausalLm> network_of(const TextModelFiles& files) {
  auto network = std::make_shared<CausalLm>(files.config);
  nn::load_parameters(*network, *files.weights, models::gemma::Names(*files.weights, files.config.tied_head),
                      at::kFloat, at::kCPU);
  return network;
}

at::Tensor logits(const CausalLm& network) {
  const auto prompt = golden("prompt");
  auto cache = network.new_cache();
  nn::KvCache* const caches[] = {&cache};
  return network.logits(network.forward({{prompt.const_data_ptr<std::int32_t>(), 24}, caches}));
}

}  // namespace

TEST_CASE("a merged folder equals base and adapter within 1e-4, a tied head's own weight included") {
  const struct {
    const char *adapter, *base;
    bool apart;  // the head is no longer the embedding
  } cases[] = {{"lora1", "gemma1", false},     {"dora2", "gemma2", false},
               {"vocab2", "gemma2", true},     {"dora-vocab2", "gemma2", true},
               {"embedding2", "gemma2", true}, {"saved2", "gemma2", true},
               {"patterns3", "gemma3", false}, {"multimodal3", "gemma3-multimodal", false}};
  const at::NoGradGuard no_grad;
  for (const auto& c : cases) {
    CAPTURE(c.adapter);
    const test::Scratch scratch;
    const std::string folder = scratch.file("merged");
    const TextModelFiles files = open_files(data(std::string("gemma/") + c.base));
    const auto network = network_of(files);
    models::adapters::load_peft(*network, data(std::string("peft/") + c.adapter));
    pipelines::write_model_folder(folder, files, pipelines::merged_tensors(*network));

    const TextModelFiles merged = open_files(folder);
    CHECK(merged.config.tied_head == (files.config.tied_head && !c.apart));
    const double difference = (logits(*network_of(merged)) - golden(c.adapter)).abs().max().item<double>();
    MESSAGE(std::string(c.adapter) << ": largest difference " << difference);
    CHECK(difference < 1e-4);
    // What is no part of the text model comes along.
    for (const std::string& name : files.weights->names()) CHECK(merged.weights->has(name));
  }
}
