#include "cli/common.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/memory.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/completions.h"
#include "cli/config_file.h"
#include "cli/help.h"
#include "cli/tool_parser.h"
#include "cli/validators.h"

namespace atelier::cli {

// These act the moment they are read, before any file is opened or any other value is looked at.
void add_help_options(CLI::App& app, const std::string& example, bool completions) {
  const std::string group = "Help";
  app.set_help_flag();
  app.add_flag_callback(
         "-h,--help", [&app, example] { throw PrintAndExit{help_text(app, example)}; }, "Print this and exit")
      ->group(group)
      ->configurable(false)
      ->trigger_on_parse();
  app.add_flag_callback(
         "--version", [] { throw PrintAndExit{fmt::format("{} {}\n", base::tool_name(), ATELIER_VERSION)}; },
         "Print the version and exit")
      ->group(group)
      ->configurable(false)
      ->trigger_on_parse();
  if (!completions) return;
  app.add_option(
         "--completions",
         [&app](const CLI::results_t& values) -> bool {
           throw PrintAndExit{completion_script(app, app.get_name(), values.back())};
         },
         "Print a completion script for this shell and exit")
      ->type_name("SHELL")
      ->check(one_of({"bash", "zsh"}))
      ->group(group)
      ->configurable(false)
      ->trigger_on_parse();
}

namespace {

void add_device_options(CLI::App& app, CommonOptions& options, const std::string& group) {
  app.add_option("--device", options.device, "Where to compute: auto, cpu, cuda or cuda:N")
      ->type_name("DEVICE")
      ->check(device_name())
      ->group(group)
      ->capture_default_str();
  app.add_option("--threads", options.threads, "CPU threads, 1 to 1024 (left out, one per core)")
      ->check(whole_in_range(1, 1024))
      ->group(group)
      ->default_str("");
}

void add_model_options(CLI::App& app, CommonOptions& options, const CommonParts& parts) {
  const std::string group = "Model and device";
  if (parts.model)
    app.add_option("-m,--model", options.model,
                   "Hugging Face or diffusers folder, or a single .safetensors file; left out, the small model that "
                   "ships with the project")
        ->type_name("PATH")
        ->group(group);
  if (parts.device) add_device_options(app, options, group);
  if (parts.dtype)
    app.add_option("--dtype", options.dtype, "Number format of the weights")
        ->type_name("DTYPE")
        ->check(one_of({"auto", "fp32", "bf16", "fp16"}))
        ->group(group)
        ->capture_default_str();
  if (!parts.plan) return;
  app.add_option("--max-ram", options.max_ram, "Refuse a run that needs more memory (e.g. 4G); exit code 71")
      ->type_name("SIZE")
      ->check(byte_size())
      ->group(group);
  app.add_flag("--plan", options.plan, "Print as JSON what the run would load and need; load nothing")->group(group);
}

void add_run_options(CLI::App& app, CommonOptions& options, bool batches) {
  const std::string group = "Input and output";
  app.add_option("-s,--seed", options.seed,
                 batches ? "Seed; result i of a run uses seed + i (left out, one is drawn and recorded)"
                         : "Seed of everything that is drawn (left out, one is drawn and recorded)")
      ->group(group);
  app.add_flag("--json", options.json, "Print one JSON object per result, one per line")->group(group);
  if (batches) {
    app.add_option("--jobs", options.jobs,
                   "Run every line of a JSON Lines file (- is stdin) with the model loaded once")
        ->type_name("FILE")
        ->group(group);
    app.add_flag("--resume", options.resume, "With --jobs: skip the jobs whose record or output is already there")
        ->group(group);
  }
  app.add_option("--manifest", options.manifest, "Write what ran to this file: options, hashes, seeds, timings")
      ->type_name("FILE")
      ->group(group);
  add_config_option(app)->group(group);
}

void add_message_options(CLI::App& app, CommonOptions& options) {
  const std::string group = "Messages";
  CLI::Option* quiet = app.add_flag("--quiet", options.quiet, "Print only errors on stderr")->group(group);
  app.add_flag("--verbose", options.verbose, "Print more on stderr")->group(group)->excludes(quiet);
  app.add_option("--progress", options.progress,
                 "Progress on stderr; auto: a bar on a terminal, else a line every 10 s")
      ->type_name("WHEN")
      ->check(one_of({"auto", "always", "never"}))
      ->group(group)
      ->capture_default_str();
}

}  // namespace

std::optional<std::uint64_t> CommonOptions::max_ram_bytes() const {
  if (max_ram.empty()) return std::nullopt;
  return base::parse_bytes(max_ram);
}

void add_command_options(CLI::App& app, CommonOptions& options, const std::string& example, const CommonParts& parts) {
  if (auto* tool = dynamic_cast<ToolParser*>(&app)) tool->common = &options;
  add_model_options(app, options, parts);
  add_run_options(app, options, parts.batches);
  add_message_options(app, options);
  add_help_options(app, example, parts.completions);
}

void add_common_options(CLI::App& app, CommonOptions& options, const std::string& example) {
  add_command_options(app, options, example, {});
}

void add_trainer_options(CLI::App& app, CommonOptions& options, const std::string& example) {
  add_command_options(app, options, example, {.batches = false});
}

CLI::Option* add_list(CLI::App& app, const std::string& names, std::vector<std::string>& target,
                      const std::string& description) {
  const auto assign = [&target](const CLI::results_t& values) {
    target = values;
    return true;
  };
  return app.add_option(names, assign, description)
      ->type_name("TEXT")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

CLI::Option* add_words(CLI::App& app, const std::string& names, std::vector<std::string>& target,
                       const std::string& type, const std::string& description) {
  return add_list(app, names, target, description)->type_name(type + std::string(kManyWords));
}

}  // namespace atelier::cli
