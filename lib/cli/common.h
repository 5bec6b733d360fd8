#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

#include "base/json.h"
#include "base/progress.h"

namespace atelier::cli {

/// Flags that every tool has (CLI.md, "All tools").
struct CommonOptions {
  std::string model;  ///< empty: the model that ships with the project
  std::string device = "auto", dtype = "auto";
  int threads = 0;  ///< 0: LibTorch's choice
  std::optional<std::uint64_t> seed;
  bool json = false, plan = false, resume = false, quiet = false, verbose = false;
  std::string jobs, manifest, max_ram, progress = "auto";
};

/// Adds the flags of CommonOptions, --config, --version, --completions bash|zsh and --help (grouped, with `example` at its end).
void add_common_options(CLI::App& app, CommonOptions& options, const std::string& example);

/// Runs a tool: sets the tool's name and the stop handlers, builds the parser (`define`), parses, applies the common flags,
/// runs `body`, flushes and checks stdout, writes the manifest, and turns every exception into one line on stderr and the
/// contract's exit code (CLI11's own codes become 64, with the nearest flag named; std::bad_alloc and LibTorch's
/// out-of-memory become 71; anything unknown 70).
/// `define` gets the parser and returns the body, whose captures own the tool's options.
int run_main(int argc, char** argv, const std::string& name, const std::string& description,
             const std::function<std::function<int()>(CLI::App&)>& define);

}  // namespace atelier::cli
