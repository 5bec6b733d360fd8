#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace atelier::cli {

/// --help: description, usage, the flags by group with their defaults, the example, the exit codes; lines wrap at 100
/// columns.
std::string help_text(const CLI::App& app, const std::string& example);

}  // namespace atelier::cli
