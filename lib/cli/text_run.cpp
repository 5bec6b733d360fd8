#include "cli/text_run.h"

#include <algorithm>
#include <filesystem>

#include "base/sha256.h"
#include "cli/default_model.h"
#include "cli/scaled_path.h"
#include "cli/validators.h"
#include "models/adapters/peft.h"

namespace atelier::cli {

using pipelines::TextModelFiles;

void add_adapter_flag(CLI::App& app, std::vector<std::string>& adapters) {
  add_list(app, "--adapter", adapters,
           "Folder of a PEFT adapter (LoRA, rsLoRA, DoRA) with its strength (repeatable, in order; left out, 1)")
      ->type_name("DIR[:SCALE]")
      ->group("Model and device");
}

void add_quantize_flag(CLI::App& app, std::string& quantize) {
  app.add_option("--quantize", quantize,
                 "Hold the weights in 8 or 4 bits, rounded while they are loaded: less memory, faster on the CPU "
                 "(gemma-quantize makes folders that open at once, of better quality)")
      ->check(one_of({"none", "int8", "int4"}))
      ->capture_default_str()
      ->group("Model and device");
}

TextModelFiles open_text_files(const CommonOptions& options, const std::vector<std::string>& adapters,
                               const std::string& quantize) {
  const std::string path = model_or_default(options.model);
  pipelines::set_threads(options.threads);
  const int bits = quantize == "int8" ? 8 : quantize == "int4" ? 4 : 0;
  TextModelFiles files = TextModelFiles::open(path, {options.device, options.dtype, {.bits = bits}});
  Manifest& m = *options.record;
  m.model_path = path;
  for (const auto& file : files.weights->files()) m.model_files.push_back(file.path);
  for (const char* name : {"config.json", "generation_config.json", "tokenizer.model", "tokenizer.json",
                           "tokenizer_config.json", "chat_template.jinja"})
    if (!files.gguf && std::filesystem::exists(files.folder + "/" + name))
      m.model_files.push_back(files.folder + "/" + name);
  m.device = files.device.str();
  for (const std::string& text : adapters) {
    const ScaledPath adapter = parse_scaled_path("--adapter", text, /*folder=*/true);
    // What does not fit is found out before a large model is loaded.
    models::gemma::CausalLm shapes(files.config);
    models::adapters::peft_bytes(shapes, adapter.path);
    const auto paths = models::adapters::peft_files(adapter.path);
    m.adapters.push_back({{"path", paths[1]},
                          {"kind", "peft"},
                          {"scale", adapter.scale},
                          {"config_sha256", base::sha256_file(paths[0])}});
    files.adapters.push_back({adapter.path, adapter.scale});
  }
  return files;
}

Plan text_plan(const CommonOptions& options, const TextModelFiles& files, std::int64_t positions, std::int64_t batch,
               const std::optional<TextModelFiles>& draft) {
  const auto memory = pipelines::plan_memory(files, positions, batch);
  Plan plan;
  plan.family = memory.family;
  plan.missing = memory.missing;
  plan.unused = memory.unused;
  for (const auto& file : files.weights->files()) plan.files.push_back(file.path);
  plan.tensors = static_cast<std::uint64_t>(memory.tensors);
  plan.parameters = static_cast<std::uint64_t>(memory.parameters);
  plan.weights = static_cast<std::uint64_t>(memory.weight_bytes);
  plan.cache = static_cast<std::uint64_t>(memory.cache_bytes);
  plan.activations = static_cast<std::uint64_t>(memory.activation_bytes);
  if (draft) {
    const auto more = pipelines::plan_memory(*draft, positions, batch);
    plan.weights += static_cast<std::uint64_t>(more.weight_bytes);
    plan.cache += static_cast<std::uint64_t>(more.cache_bytes);
    plan.activations =
        std::max(plan.activations, static_cast<std::uint64_t>(more.activation_bytes));  // they take turns
  }
  plan.max_ram = options.max_ram_bytes();
  return plan;
}

}  // namespace atelier::cli
