#pragma once

#include <CLI/CLI.hpp>

namespace atelier::cli {

/// Adds --preset NAME: settings that ship with the project (examples/presets/NAME.toml, flag names as keys). They take the
/// place of the flags' defaults, so that --config and the command line win, wherever they stand. Error(usage): a name that
/// does not ship, naming the nearest; a key that is no flag, or one that takes several values.
CLI::Option* add_preset_option(CLI::App& app);

}  // namespace atelier::cli
