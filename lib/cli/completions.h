#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace atelier::cli {

/// A completion script for `shell` ("bash" or "zsh") made from the parser's own flags: names, the words a flag accepts,
/// and file or folder arguments (type names FILE, DIR, PATH). Error(usage) for another shell.
std::string completion_script(const CLI::App& app, const std::string& tool, const std::string& shell);

}  // namespace atelier::cli
