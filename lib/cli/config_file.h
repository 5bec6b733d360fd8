#pragma once

#include <CLI/CLI.hpp>

namespace atelier::cli {

/// Adds --config FILE: TOML whose keys are long flag names (`max-tokens` or `max_tokens`). Flags on the command line
/// win. While parsing: a missing file is Error(no_input), malformed TOML Error(data), an unknown key or a value of the
/// wrong kind Error(usage) naming it and the nearest right one.
CLI::Option* add_config_option(CLI::App& app);

}  // namespace atelier::cli
