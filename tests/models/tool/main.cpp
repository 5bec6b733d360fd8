// Makes adapters for scripts/check-adapters: adapter-test-tool BASE CONFIG OUTPUT TOKENS
//
// Puts a new adapter of the configuration CONFIG (an adapter_config.json) on the Gemma in the folder BASE, gives it random
// numbers, and writes to the folder OUTPUT the adapter, the model with the adapter in its weights (OUTPUT/merged), and
// logits.safetensors, the f32 `logits` (n, vocab) of the token ids TOKENS ("5,7,9").
//
// Makes LoRA files for scripts/check-loras: adapter-test-tool lora MODEL LAYOUT KIND OUTPUT (see lora.h).
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>

#include "base/error.h"
#include "io/safetensors.h"
#include "lora.h"
#include "models/adapters/peft.h"
#include "models/gemma/names.h"
#include "pipelines/model_folder.h"

namespace {

using namespace atelier;

std::vector<std::int32_t> ids_of(const std::string& text) {
  std::vector<std::int32_t> ids;
  std::stringstream stream(text);
  for (std::string id; std::getline(stream, id, ',');) ids.push_back(std::stoi(id));
  return ids;
}

void randomise(const models::adapters::PeftAdapter& adapter, at::Generator& generator) {
  for (const auto& target : adapter.targets) {
    auto& a = *target.adapter;
    a.lora_a.normal_(0, 0.4, generator);
    a.lora_b.normal_(0, 0.4, generator);
    if (a.magnitude.defined()) a.magnitude.mul_(at::empty_like(a.magnitude).uniform_(0.7, 1.3, generator));
  }
}

void run(const std::string& base_folder, const std::string& config_file, const std::string& output,
         const std::vector<std::int32_t>& tokens) {
  const at::NoGradGuard no_grad;
  const auto files = pipelines::TextModelFiles::open(base_folder, {"cpu", "fp32"});
  models::gemma::CausalLm model(files.config);
  nn::load_parameters(model, *files.weights, models::gemma::Names(*files.weights, files.config.tied_head), at::kFloat,
                      at::kCPU);
  auto generator = at::detail::createCPUGenerator(11);
  const auto peft = models::adapters::parse_peft_config(base::read_json_file(config_file), config_file);
  const auto adapter = models::adapters::attach(model, peft, generator);
  randomise(adapter, generator);
  models::adapters::save_peft(output, adapter);
  pipelines::write_model_folder(output + "/merged", files, pipelines::merged_tensors(model));

  auto cache = model.new_cache();
  nn::KvCache* const caches[] = {&cache};
  const auto logits = model.logits(model.forward({tokens, caches})).contiguous();
  const io::TensorBytes bytes{{"logits", io::DType::F32, logits.sizes().vec()},
                              {static_cast<const std::byte*>(logits.const_data_ptr()), logits.nbytes()}};
  io::write_safetensors(output + "/logits.safetensors", {&bytes, 1}, {});
}

}  // namespace

int main(int argc, char** argv) {
  const bool lora = argc == 6 && std::string(argv[1]) == "lora";
  if (argc != 5 && !lora) {
    std::fputs(
        "usage: adapter-test-tool BASE CONFIG OUTPUT TOKENS\n"
        "       adapter-test-tool lora MODEL LAYOUT KIND OUTPUT\n",
        stderr);
    return 64;
  }
  try {
    if (lora)
      make_lora(argv[2], argv[3], argv[4], argv[5]);
    else
      run(argv[1], argv[2], argv[3], ids_of(argv[4]));
  } catch (const base::Error& error) {
    std::fprintf(stderr, "adapter-test-tool: error: %s\n", error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}
