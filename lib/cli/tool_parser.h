#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "cli/common.h"

namespace atelier::cli {

/// The parser of a whole tool, as run_main makes it; it knows which CommonOptions the tool registered. Jobs of a batch
/// are read by plain CLI::Apps.
class ToolParser : public CLI::App {
 public:
  using CLI::App::App;
  CommonOptions* common = nullptr;
};

/// Thrown while parsing by --help, --version and --completions: print `text` to stdout and end with 0.
struct PrintAndExit {
  std::string text;
};

}  // namespace atelier::cli
