#include "cli/common.h"

#include <fmt/format.h>

#include "base/memory.h"
#include "cli/completions.h"
#include "cli/config_file.h"
#include "cli/help.h"
#include "cli/tool_parser.h"
#include "cli/validators.h"

namespace atelier::cli {

namespace {

// These act the moment they are read, before any file is opened or any other value is looked at.
void add_print_and_exit(CLI::App& app, const std::string& example) {
  const std::string group = "Help";
  app.set_help_flag();
  app.add_flag_callback(
         "-h,--help", [&app, example] { throw PrintAndExit{help_text(app, example)}; }, "Print this and exit")
      ->group(group)
      ->configurable(false)
      ->trigger_on_parse();
  app.add_flag_callback(
         "--version", [&app] { throw PrintAndExit{fmt::format("{} {}\n", app.get_name(), ATELIER_VERSION)}; },
         "Print the version and exit")
      ->group(group)
      ->configurable(false)
      ->trigger_on_parse();
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

void add_model_options(CLI::App& app, CommonOptions& options) {
  const std::string group = "Model and device";
  app.add_option("-m,--model", options.model,
                 "Hugging Face or diffusers folder, or a single .safetensors file; left out, the small model that "
                 "ships with the project")
      ->type_name("PATH")
      ->group(group);
  app.add_option("--device", options.device, "Where to compute: auto, cpu, cuda or cuda:N")
      ->type_name("DEVICE")
      ->check(device_name())
      ->group(group)
      ->capture_default_str();
  app.add_option("--dtype", options.dtype, "Number format of the weights")
      ->type_name("DTYPE")
      ->check(one_of({"auto", "fp32", "bf16", "fp16"}))
      ->group(group)
      ->capture_default_str();
  app.add_option("--threads", options.threads, "CPU threads, 1 to 1024 (left out, one per core)")
      ->check(whole_in_range(1, 1024))
      ->group(group)
      ->default_str("");
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

void add_common_options(CLI::App& app, CommonOptions& options, const std::string& example) {
  if (auto* tool = dynamic_cast<ToolParser*>(&app)) tool->common = &options;
  add_model_options(app, options);
  add_run_options(app, options, true);
  add_message_options(app, options);
  add_print_and_exit(app, example);
}

void add_trainer_options(CLI::App& app, CommonOptions& options, const std::string& example) {
  if (auto* tool = dynamic_cast<ToolParser*>(&app)) tool->common = &options;
  add_model_options(app, options);
  add_run_options(app, options, false);
  add_message_options(app, options);
  add_print_and_exit(app, example);
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

}  // namespace atelier::cli
