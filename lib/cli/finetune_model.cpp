#include "cli/finetune_model.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/sha256.h"
#include "cli/default_model.h"
#include "cli/text_run.h"
#include "io/mapped_file.h"
#include "models/adapters/peft_match.h"
#include "models/adapters/peft_modules.h"
#include "nn/cross_entropy.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using models::adapters::PeftAdapter;
using pipelines::TextModelFiles;
using train::Parameter;
using train::Precision;

TextModelFiles open_files(const FinetuneOptions& options, const std::string& dtype) {
  CommonOptions common = options.common;
  common.dtype = dtype;
  if (options.init != "random") {
    TextModelFiles files = open_text_files(common);
    if (files.gguf && (options.method == "full" || options.merge))
      throw Error(ExitCode::usage,
                  fmt::format("{}: a model folder cannot be made of a GGUF file",
                              options.method == "full" ? "--method full" : "--merge"),
                  "--method lora trains an adapter for it");
    return files;
  }
  const std::string path = model_or_default(common.model);
  pipelines::set_threads(common.threads);
  TextModelFiles files = TextModelFiles::open_untrained(path, {common.device, common.dtype});
  common.record->model_path = path;
  common.record->model_files = {files.folder + "/config.json"};
  common.record->device = files.device.str();
  return files;
}

Precision precision_of(const FinetuneOptions& options, const TextModelFiles& files) {
  if (options.train.precision == "auto") return files.dtype == at::kBFloat16 ? Precision::bf16 : Precision::fp32;
  const Precision precision = train::precision(options.train.precision);
  train::check_precision(precision, files.device);
  if (precision == Precision::fp16)
    throw Error(ExitCode::usage, "--precision fp16: Gemma's activations leave the range of fp16", "use bf16 or fp32");
  return precision;
}

/// A draw of the adapter's or the model's initial numbers does not depend on what was drawn before.
at::Generator generator_of(std::uint64_t seed) { return at::detail::createCPUGenerator(seed); }

std::vector<Parameter> adapter_parameters(const PeftAdapter& adapter) {
  std::vector<Parameter> parameters;
  for (const auto& [name, tensor] : adapter.tensors()) {
    tensor.requires_grad_(true);
    parameters.push_back({name, tensor});
  }
  return parameters;
}

/// Norms and biases are not decayed, as transformers' Trainer leaves them out.
std::vector<Parameter> all_weights(models::gemma::CausalLm& network) {
  std::map<std::string, at::Tensor> sorted;
  for (auto& entry : network.named_parameters()) {
    // Loaded weights are the file's pages: training needs memory of its own.
    entry.value().set_data(entry.value().detach().clone());
    sorted[entry.key()] = entry.value().requires_grad_(true);
  }
  std::vector<Parameter> parameters;
  for (const auto& [name, tensor] : sorted) parameters.push_back({name, tensor, 1, tensor.dim() > 1});
  return parameters;
}

PeftAdapter begun_adapter(const FinetuneOptions& options, models::gemma::CausalLm& network, std::uint64_t seed) {
  if (options.init_adapter.empty()) {
    PeftAdapter adapter = models::adapters::attach(network, adapter_config(options), generator_of(seed));
    // Dropout draws from the generator that a checkpoint has the state of, and a recomputed layer.
    for (const auto& target : adapter.targets) target.adapter->generator = at::Generator();
    return adapter;
  }
  PeftAdapter adapter = models::adapters::load_peft(network, options.init_adapter);
  if (!adapter.whole.empty())
    throw Error(ExitCode::data, fmt::format("{}: holds whole modules besides its adapters, which cannot be trained on",
                                            options.init_adapter));
  const bool dora = options.use_dora || options.method == "dora";
  if (dora != adapter.config.use_dora && (dora || options.given("method")) && options.method != "qlora")
    throw Error(ExitCode::usage, fmt::format("{}: is a {} adapter, and --method is {}", options.init_adapter,
                                             adapter.config.use_dora ? "DoRA" : "LoRA", options.method));
  adapter.config.lora_dropout = options.dropout;
  for (const auto& target : adapter.targets) {
    target.adapter->dropout = options.dropout;
    nn::Adapter& a = *target.adapter;
    for (at::Tensor* tensor : {&a.lora_a, &a.lora_b, &a.magnitude})
      if (tensor->defined()) *tensor = tensor->detach().to(at::kFloat, false, /*copy=*/true);
  }
  return adapter;
}

}  // namespace

TraineeFiles open_trainee(const FinetuneOptions& options) {
  TraineeFiles trainee{open_files(options, options.common.dtype), Precision::fp32};
  if (trainee.files.quantised && (options.method == "full" || options.method == "qlora"))
    throw Error(ExitCode::usage,
                fmt::format("--method {}: {} is quantised already", options.method, trainee.files.folder),
                "--method lora trains an adapter on it as it is");
  trainee.precision = precision_of(options, trainee.files);
  const bool chosen = options.common.dtype != "auto";
  if (chosen && trainee.precision == Precision::fp32 && trainee.files.dtype != at::kFloat)
    throw Error(ExitCode::usage, "--precision fp32 needs the weights in fp32: leave --dtype out");
  if (!chosen && trainee.precision == Precision::fp32) trainee.files.dtype = at::kFloat;
  if (!chosen && trainee.precision == Precision::bf16 && options.method != "full") trainee.files.dtype = at::kBFloat16;
  return trainee;
}

std::int64_t Trainee::trained() const {
  std::int64_t numbers = 0;
  for (const Parameter& parameter : parameters) numbers += parameter.tensor.numel();
  return numbers;
}

Trainee make_trainee(const FinetuneOptions& options, const TextModelFiles& files, std::uint64_t seed) {
  const FinetuneMethod method = method_of(options);
  Trainee trainee;
  trainee.model = options.init == "random" ? pipelines::TextModel::begin(files, generator_of(seed))
                                           : pipelines::TextModel::load(files, method == FinetuneMethod::qlora);
  models::gemma::CausalLm& network = *trainee.model->network;
  if (method == FinetuneMethod::full) {
    trainee.parameters = all_weights(network);
    return trainee;
  }
  trainee.adapter = begun_adapter(options, network, seed);
  trainee.parameters = adapter_parameters(*trainee.adapter);
  return trainee;
}

std::int64_t count_trained(const FinetuneOptions& options, const TextModelFiles& files) {
  if (options.method == "full") return files.config.parameters();
  if (!options.init_adapter.empty()) {
    const auto source = io::WeightSource::open(options.init_adapter, "adapter_model");
    std::int64_t numbers = 0;
    for (const std::string& name : source->names()) numbers += source->info(name).elements();
    return numbers;
  }
  models::gemma::CausalLm network(files.config);
  const auto config = adapter_config(options);
  const models::adapters::PeftMatcher matcher(config, "--target-modules");
  std::int64_t numbers = 0;
  for (const auto& module : models::adapters::selected_modules(network, matcher, "--target-modules")) {
    const std::int64_t rank = matcher.rank(module.path);
    numbers += rank * module.a_shape(rank)[1] + rank * module.out() + (config.use_dora ? module.out() : 0);
  }
  return numbers;
}

void check_adapter_flags(const FinetuneOptions& options, const TextModelFiles& files) {
  if (options.method == "full" || !options.init_adapter.empty()) return;
  std::int64_t numbers = 0;
  try {
    numbers = count_trained(options, files);
  } catch (const Error& error) {
    throw Error(ExitCode::usage, error.what(), error.hint());
  }
  if (numbers == 0)
    throw Error(ExitCode::usage,
                fmt::format("--target-modules {}: the model has no such module", options.target_modules),
                "names as q_proj, v_proj, gate_proj, embed_tokens or lm_head; or all-linear");
}

std::string model_fingerprint(const TextModelFiles& files) {
  constexpr std::size_t head = 1u << 20;
  std::string facts = base::dump_json(files.config_json);
  if (files.weights) {
    for (const auto& file : files.weights->files()) {
      const auto mapped = io::MappedFile::open(file.path);
      const std::string_view bytes(reinterpret_cast<const char*>(mapped->bytes().data()), mapped->bytes().size());
      facts += fmt::format(" {} {}", bytes.size(), base::sha256_hex(bytes.substr(0, head)));
    }
  }
  return base::sha256_hex(facts);
}

// --- What a run needs -------------------------------------------------------------------------------------------------

namespace {

/// Kept products take at most this part of the weights' bytes: their memory then grows no faster than the model.
constexpr std::uint64_t kept_share = 4;

/// Bytes that the optimiser keeps for each trained number, besides the number and its gradient.
double state_bytes(const std::string& optimizer, bool half) {
  const double master = half ? 4 : 0;
  if (optimizer == "adamw") return master + 8;
  if (optimizer == "adamw8bit") return master + 2;
  if (optimizer == "lion") return master + 4;
  return master;  // adafactor keeps rows and columns, sgd nothing
}

/// What one layer keeps for its backward pass, for each token: inputs of its products, norms in f32, and the MLP's halves.
std::int64_t layer_bytes(const models::gemma::Config& c, std::int64_t element) {
  const std::int64_t heads = (2 * c.heads + 2 * c.kv_heads) * c.head_dim;
  return (6 * c.hidden_size + 3 * heads + 5 * c.intermediate_size) * element + (12 * c.hidden_size + 2 * heads) * 4;
}

/// The most tokens of a micro-batch.
std::int64_t tokens_of(const FinetuneOptions& o, const models::gemma::Config& c) {
  return o.train.batch_size * std::min(o.max_seq_len, c.max_positions);
}

std::uint64_t activation_bytes(const FinetuneOptions& o, const TextModelFiles& files, Precision precision) {
  const auto& c = files.config;
  const std::int64_t element = precision == Precision::fp32 ? 4 : 2;
  const std::int64_t tokens = tokens_of(o, c);
  const std::int64_t kept = o.train.checkpointing ? c.layers * c.hidden_size * element + layer_bytes(c, element)
                                                  : c.layers * layer_bytes(c, element);
  const std::int64_t rows = std::min(tokens, nn::cross_entropy_rows(c.vocab_size));
  const std::int64_t logits = rows * c.vocab_size * (8 + 2 * element);
  return static_cast<std::uint64_t>(tokens * (kept + 4 * c.hidden_size * element) + logits);
}

std::int64_t weight_bytes(const FinetuneOptions& o, const TextModelFiles& files) {
  const auto& c = files.config;
  const auto element = static_cast<std::int64_t>(c10::elementSize(files.dtype));
  if (o.method != "qlora") return c.parameters() * element;
  const std::int64_t per_layer =
      c.hidden_size * c.head_dim * (2 * c.heads + 2 * c.kv_heads) + 3 * c.hidden_size * c.intermediate_size;
  const std::int64_t quantised = c.layers * per_layer;
  return quantised * 33 / 64 + (c.parameters() - quantised) * element;  // 4.13 bits
}

/// The plan of a run that keeps no products.
Plan leanest_plan(const FinetuneOptions& options, const TraineeFiles& trainee) {
  const TextModelFiles& files = trainee.files;
  Plan plan;
  if (files.weights) {
    plan = text_plan(options.common, files, 1, 1);
  } else {
    plan.family = files.config.model_type;
    plan.parameters = static_cast<std::uint64_t>(files.config.parameters());
    plan.max_ram = options.common.max_ram_bytes();
  }
  const bool full = options.method == "full";
  const bool half = full && files.dtype != at::kFloat;
  const auto trained = static_cast<double>(count_trained(options, files));
  const double own = full ? 0 : 4;  // an adapter comes on top of the weights
  plan.weights = static_cast<std::uint64_t>(static_cast<double>(weight_bytes(options, files)) + trained * own);
  plan.optimizer = static_cast<std::uint64_t>(
      trained * ((half ? 2 : 4) + state_bytes(options.train.optimizer, half) + (options.train.ema > 0 ? 4 : 0)));
  plan.cache = 0;
  plan.activations = activation_bytes(options, files, trainee.precision);
  return plan;
}

/// Bytes of the products that a run keeps.
std::uint64_t kept_bytes(const FinetuneOptions& options, const TraineeFiles& trainee, const Plan& leanest) {
  if (!options.train.checkpointing || options.method == "full") return 0;
  const auto& c = trainee.files.config;
  const std::int64_t element = trainee.precision == Precision::fp32 ? 4 : 2;
  const std::int64_t all = c.layers * tokens_of(options, c) * models::gemma::product_bytes(c, element);
  std::uint64_t most = std::min(static_cast<std::uint64_t>(all), leanest.weights / kept_share);
  if (leanest.max_ram) most = std::min(most, *leanest.max_ram - std::min(*leanest.max_ram, leanest.total()));
  return most;
}

}  // namespace

models::gemma::Recompute recompute_of(const FinetuneOptions& options, const TraineeFiles& trainee) {
  if (!options.train.checkpointing) return {};
  return {.layers = true, .kept_bytes = kept_bytes(options, trainee, leanest_plan(options, trainee))};
}

Plan finetune_plan(const FinetuneOptions& options, const TraineeFiles& trainee) {
  Plan plan = leanest_plan(options, trainee);
  plan.activations += kept_bytes(options, trainee, plan);
  return plan;
}

}  // namespace atelier::cli
