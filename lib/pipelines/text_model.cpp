#include "pipelines/text_model.h"

#include <algorithm>
#include <filesystem>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/sha256.h"
#include "base/stopwatch.h"
#include "models/adapters/peft.h"
#include "models/gemma/gguf.h"
#include "models/gemma/names.h"
#include "nn/kernels/kernels.h"
#include "nn/nf4.h"
#include "nn/quantised_loading.h"
#include "pipelines/generation.h"
#include "text/gguf_tokenizer.h"

namespace atelier::pipelines {
namespace {

using base::Error;
using base::ExitCode;
using models::gemma::CausalLm;
using models::gemma::Names;
namespace fs = std::filesystem;

at::ScalarType checkpoint_dtype(const io::WeightSource& weights, const Names& names) {
  // A packed checkpoint still has its norms as they were.
  for (const char* name : {"model.embed_tokens.weight", "model.norm.weight"})
    if (const std::string stored = names.stored(name); weights.has(stored))
      return io::scalar_type(weights.info(stored).dtype);
  return at::kFloat;
}

/// `quantization_config` of a packed folder says what its tensors are, for those who cannot read them.
void check_quantization_config(const TextModelFiles& files) {
  const auto found = files.config_json.find("quantization_config");
  if (found == files.config_json.end()) return;
  const std::string what = files.folder + "/config.json: quantization_config";
  if (!found->is_object()) throw Error(ExitCode::data, what + " must be an object");
  const base::JsonFields fields(*found, what);
  if (const std::string method = fields.string("quant_method"); method != quantised_method)
    throw Error(ExitCode::data, fmt::format("{}: \"quant_method\" is \"{}\", known is {}", what, method, quantised_method),
                "gemma-quantize makes folders in fewer bits out of the original one");
  if (fields.integer("version", 0, 1 << 20) != quantised_version)
    throw Error(ExitCode::data, fmt::format("{}: another version than {}, which these tools read", what, quantised_version));
}

at::Device device_for_quantised(const std::string& name, at::Device device) {
  if (device.is_cpu() || name == "auto") return at::kCPU;
  throw Error(ExitCode::unavailable, fmt::format("--device {}: weights in 8 or 4 bits run on the CPU", name));
}

at::ScalarType resolve_dtype(const std::string& name, at::ScalarType stored, at::Device device) {
  if (name == "fp32") return at::kFloat;
  if (name == "bf16") return at::kBFloat16;
  if (name == "fp16")
    throw Error(ExitCode::usage, "--dtype fp16: Gemma's activations leave the range of fp16", "use bf16 or fp32");
  if (stored == at::kFloat || stored == at::kBFloat16) return stored;
  const bool cpu_bf16 = nn::kernels::find_table("avx512bf16") != nullptr;
  return device.is_cpu() && !cpu_bf16 ? at::kFloat : at::kBFloat16;
}

/// The project's own template for a folder that brings none.
std::string builtin_template(models::gemma::Generation generation) {
  switch (generation) {
    case models::gemma::Generation::gemma1: return "gemma";
    case models::gemma::Generation::gemma2: return "gemma2";
    default: return "gemma3";
  }
}

TextModelFiles open_config(const std::string& path, const Placement& placement) {
  TextModelFiles files;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) throw Error(ExitCode::no_input, fmt::format("{}: no such file or folder", path));
  files.device = resolve_device(placement.device);
  const bool is_folder = fs::is_directory(path, ignored);
  files.folder = is_folder ? path : fs::path(path).parent_path().string();
  if (files.folder.empty()) files.folder = ".";
  if (io::is_gguf(path)) {
    files.gguf = io::GgufFile::open(path);
    files.config_json = models::gemma::config_from_gguf(files.gguf->header, path);
    files.config = models::gemma::parse_config(files.config_json, path);
    return files;
  }
  const std::string config_path = files.folder + "/config.json";
  if (!fs::exists(config_path, ignored))
    throw Error(ExitCode::no_input, fmt::format("{}: no config.json", files.folder),
                "--model wants a Hugging Face folder, a .safetensors file with config.json and the tokenizer beside "
                "it, or a GGUF file");
  files.config_json = base::read_json_file(config_path);
  files.config = models::gemma::parse_config(files.config_json, config_path);
  return files;
}

/// Everything but the weights.
std::shared_ptr<TextModel> without_weights(const TextModelFiles& files) {
  auto model = std::make_shared<TextModel>();
  const TextParts parts = TextParts::open(files);
  model->folder = files.folder;
  model->tokenizer = parts.tokenizer;
  model->chat_template = parts.chat_template;
  model->instruction_tuned = parts.instruction_tuned;
  model->stop_ids = models::gemma::read_stop_ids(files.gguf ? "" : files.folder, files.config_json);
  model->bos = model->tokenizer->bos();
  model->context = files.config.max_positions;
  model->network = std::make_shared<CausalLm>(files.config);
  model->network->set_cache_format(files.cache);
  return model;
}

}  // namespace

at::Device resolve_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  const bool cuda = at::globalContext().hasCUDA();
  if (name == "auto") return cuda ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  const int index = name.size() > 5 ? std::stoi(name.substr(5)) : 0;
  const int count = cuda ? static_cast<int>(at::detail::getCUDAHooks().deviceCount()) : 0;
  if (index >= count)
    throw Error(
        ExitCode::unavailable,
        count == 0 ? fmt::format("--device {}: this LibTorch or this machine has no CUDA device", name)
                   : fmt::format("--device {}: this machine has {} CUDA device{}", name, count, count == 1 ? "" : "s"));
  return {at::kCUDA, static_cast<at::DeviceIndex>(index)};
}

TextModelFiles TextModelFiles::open(const std::string& path, const Placement& placement) {
  TextModelFiles files = open_config(path, placement);
  check_quantization_config(files);
  files.weights = files.gguf ? models::gemma::gguf_weights(files.gguf) : io::WeightSource::open(path);
  files.dtype = resolve_dtype(
      placement.dtype, checkpoint_dtype(*files.weights, Names(*files.weights, files.config.tied_head)), files.device);
  files.quantisation = placement.quantisation;
  const Names names(*files.weights, files.config.tied_head);
  files.quantised = nn::has_quantised(*files.weights, names.stored("model.embed_tokens.weight"));
  if (files.quantised && files.quantisation)
    throw Error(ExitCode::usage, fmt::format("{}: is quantised already", path), "leave --quantize out");
  if (files.quantised || files.quantisation) files.device = device_for_quantised(placement.device, files.device);
  return files;
}

TextModelFiles TextModelFiles::open_untrained(const std::string& folder, const Placement& placement) {
  TextModelFiles files = open_config(folder, placement);
  files.dtype = resolve_dtype(placement.dtype, at::kFloat, files.device);
  return files;
}

std::shared_ptr<const text::Tokenizer> TextModelFiles::open_tokenizer() const {
  if (!gguf) return text::Tokenizer::open(folder);
  auto tokenizer = text::tokenizer_from_gguf(gguf->header, gguf->file->path());
  if (tokenizer->size() > config.vocab_size)
    throw Error(ExitCode::data, fmt::format("{}: {} tokens for {} rows of token_embd.weight", gguf->file->path(),
                                            tokenizer->size(), config.vocab_size));
  return tokenizer;
}

std::shared_ptr<const text::ChatTemplate> TextModelFiles::own_template() const {
  return gguf ? text::chat_template_from_gguf(gguf->header, gguf->file->path())
              : text::ChatTemplate::from_folder(folder);
}

TextParts TextParts::open(const TextModelFiles& files) {
  TextParts parts;
  parts.tokenizer = files.open_tokenizer();
  parts.chat_template = files.own_template();
  parts.instruction_tuned = parts.chat_template != nullptr;
  if (!parts.chat_template)
    parts.chat_template = text::ChatTemplate::builtin(builtin_template(files.config.generation));
  return parts;
}

std::shared_ptr<const TextModel> TextModel::load(const TextModelFiles& files, bool nf4) {
  const base::Stopwatch watch;
  const at::NoGradGuard no_grad;
  auto model = without_weights(files);
  const Names names(*files.weights, files.config.tied_head);
  names.note_ignored(*files.weights);
  if (nf4) {
    nn::load_nf4(*model->network, *files.weights, names, files.dtype, files.device, "model.layers.");
  } else if (files.quantised || files.quantisation) {
    nn::load_quantised(*model->network, *files.weights, names, files.dtype, files.quantisation);
    model->network->share_quantised();
  } else {
    nn::load_parameters(*model->network, *files.weights, names, files.dtype, files.device);
  }
  for (const TextAdapter& adapter : files.adapters)
    models::adapters::load_peft(*model->network, adapter.folder, adapter.scale);
  model->load_seconds = watch.seconds();
  return model;
}

std::vector<std::string> adapter_identities(const TextModelFiles& files) {
  std::vector<std::string> identities;
  for (const TextAdapter& adapter : files.adapters) {
    std::string& identity = identities.emplace_back(fmt::format("{}", adapter.scale));
    for (const std::string& file : models::adapters::peft_files(adapter.folder))
      identity += " " + base::sha256_file(file);
  }
  return identities;
}

std::shared_ptr<const TextModel> TextModel::begin(const TextModelFiles& files, const at::Generator& generator) {
  const at::NoGradGuard no_grad;
  auto model = without_weights(files);
  const double range = base::JsonFields(files.config_json, "config.json").number_or("initializer_range", 0, 10, 0.02);
  for (auto& entry : model->network->named_parameters()) {
    at::Tensor weight = at::zeros(entry.value().sizes(), at::kFloat);
    if (weight.dim() > 1) weight.normal_(0, range, generator);
    entry.value().set_data(weight.to(files.device, files.dtype));
  }
  return model;
}

std::vector<text::TokenId> stop_ids_of(const TextModel& model, bool chat, bool functions) {
  std::vector<text::TokenId> ids = model.stop_ids;
  const auto add = [&](const char* piece) {
    if (const auto id = model.tokenizer->find(piece); id && model.tokenizer->is_control(*id)) ids.push_back(*id);
  };
  if (chat) add("<end_of_turn>");
  if (functions) add("<start_function_response>");
  return ids;
}

void set_threads(int threads) {
  if (threads > 0) at::set_num_threads(threads);
}

MemoryPlan plan_memory(const TextModelFiles& files, std::int64_t positions, std::int64_t batch) {
  const auto& c = files.config;
  MemoryPlan plan;
  plan.family = c.model_type;
  CausalLm network(c);
  const Names names(*files.weights, c.tied_head);
  names.note_ignored(*files.weights);
  plan.weight_bytes = nn::account_quantised(network, *files.weights, names, files.dtype, files.quantisation);
  plan.missing = files.weights->missing();
  plan.unused = files.weights->unused();
  plan.tensors = static_cast<std::int64_t>(files.weights->names().size());
  plan.parameters = c.parameters();

  const auto element = static_cast<std::int64_t>(c10::elementSize(files.dtype));
  for (const TextAdapter& adapter : files.adapters)
    plan.weight_bytes += models::adapters::peft_bytes(network, adapter.folder);
  plan.cache_bytes = batch * models::gemma::cache_bytes(c, positions, files.dtype, files.cache);
  // One chunk of a prompt through the widest places: gate and up, scores of one block in f32, and the logits of a step.
  const std::int64_t chunk = std::min(positions, prefill_chunk);
  plan.activation_bytes = chunk * (2 * c.intermediate_size + 4 * c.hidden_size + 2 * c.heads * c.head_dim) * element +
                          std::min<std::int64_t>(16 << 20, 4 * c.heads * chunk * positions) * 3 +
                          batch * c.vocab_size * 12;
  return plan;
}

}  // namespace atelier::pipelines
