#pragma once

#include <string>
#include <vector>

namespace atelier::cli {

/// What ships with the project as KIND/NAME ("presets", "gpu-8gb.toml"). Looked for, in this order: $ATELIER_PRESETS/NAME (for
/// each kind its own); relative to the executable, ../share/atelier/KIND/NAME (installed); examples/KIND/NAME in the
/// executable's folder and every folder above it (built in the source tree). No path is compiled in, so that installed
/// folders can be moved. "" where there is none.
std::string shipped_path(const std::string& kind, const std::string& name);

/// The names that ship of a kind, without their ending, sorted.
std::vector<std::string> shipped_names(const std::string& kind);

/// Folder of a model that ships, found as KIND "models". Error(no_input) with a hint where there is none.
std::string shipped_model(const std::string& name = "tiny-gemma");

/// `given`, or where it is empty the shipped model, which is then announced on stderr.
std::string model_or_default(const std::string& given, const std::string& name = "tiny-gemma");

}  // namespace atelier::cli
