#pragma once

#include <string>
#include <vector>

#include "cli/common.h"

/// What tools with commands (`sd-bench fid ...`) need beyond cli/common.h. A command is run by run_main under the name
/// "TOOL COMMAND"; messages and manifest then bear the tool's name alone.
namespace atelier::cli {

/// Which of the common flags a command has no use for.
struct CommonParts {
  bool model = true;        ///< --model
  bool device = true;       ///< --device, --threads
  bool dtype = true;        ///< --dtype
  bool plan = true;         ///< --plan, --max-ram
  bool batches = true;      ///< --jobs and its --resume
  bool completions = true;  ///< --completions; a command's are the tool's
};

/// add_common_options with those parts alone.
void add_command_options(CLI::App& app, CommonOptions& options, const std::string& example, const CommonParts& parts);

/// --help, --version and --completions alone: of a tool whose commands have the rest.
void add_help_options(CLI::App& app, const std::string& example, bool completions = true);

/// As add_list, where all words up to the next flag belong to it too: `--models A B`. `type` names one of them ("PATH"); a command
/// that has such flags can have no positional arguments.
CLI::Option* add_words(CLI::App& app, const std::string& names, std::vector<std::string>& target,
                       const std::string& type, const std::string& description);

}  // namespace atelier::cli
