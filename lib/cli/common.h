#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "base/json.h"
#include "cli/manifest.h"

namespace atelier::cli {

/// Flags that every tool has (CLI.md, "All tools"). A job of `--jobs` works on a copy; copies share `record`.
struct CommonOptions {
  std::string model;  ///< empty: the model that ships with the project (see default_model.h)
  std::string device = "auto", dtype = "auto";
  int threads = 0;  ///< 0: LibTorch's choice
  std::optional<std::uint64_t> seed;
  bool json = false, plan = false, resume = false, quiet = false, verbose = false;
  std::string jobs, manifest, max_ram, progress = "auto";

  /// --max-ram in bytes; nothing where the flag was not given.
  std::optional<std::uint64_t> max_ram_bytes() const;

  /// What the run reports to --manifest: `body` fills in model, seeds, outputs, timings and device as it learns them;
  /// run_main adds the rest and writes the file, also when the run fails.
  std::shared_ptr<Manifest> record = std::make_shared<Manifest>();
};

/// Adds the flags of CommonOptions, --config, --version, --completions bash|zsh and --help (grouped, with `example` and
/// the exit codes at its end). `options` must outlive the parser.
void add_common_options(CLI::App& app, CommonOptions& options, const std::string& example);

/// The same for a trainer, which has one result: without --jobs and its --resume.
void add_trainer_options(CLI::App& app, CommonOptions& options, const std::string& example);

/// A flag that may be given several times and collects texts, each taken as it is: CLI11's own vectors split "[a,b]",
/// drop "{}", and swallow the arguments that follow.
CLI::Option* add_list(CLI::App& app, const std::string& names, std::vector<std::string>& target,
                      const std::string& description);

/// Runs a tool: sets the tool's name and the stop handlers, builds the parser (`define`), parses, applies the common
/// flags, runs `body`, flushes and checks stdout, writes the manifest, and turns every exception into one line on
/// stderr and the contract's exit code (CLI11's own codes become 64, with the nearest flag named; std::bad_alloc and
/// LibTorch's out-of-memory become 71; anything unknown 70). `define` gets the parser and returns the body, whose
/// captures own the tool's options (hold them in a shared_ptr: a std::function copies its captures).
int run_main(int argc, char** argv, const std::string& name, const std::string& description,
             const std::function<std::function<int()>(CLI::App&)>& define);

/// What an exception means to the caller of the process.
struct Failure {
  base::ExitCode code = base::ExitCode::internal;
  std::string message;  ///< one line
  std::string hint;     ///< one line, or empty
};

/// Classifies any exception; run_main and batches (one bad job) share it.
Failure describe_failure(const std::exception& error);

}  // namespace atelier::cli
