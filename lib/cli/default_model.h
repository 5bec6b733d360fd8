#pragma once

#include <string>

namespace atelier::cli {

/// Folder of a model that ships with the project. Looked for, in this order: $ATELIER_MODELS/NAME; relative to the
/// executable, ../share/atelier/models/NAME (installed); examples/models/NAME in the executable's folder and every
/// folder above it (built in the source tree). No path is compiled in, so that installed folders can be moved.
/// Error(no_input) with a hint where there is none.
std::string shipped_model(const std::string& name = "tiny-gemma");

/// `given`, or where it is empty the shipped model, which is then announced on stderr.
std::string model_or_default(const std::string& given, const std::string& name = "tiny-gemma");

}  // namespace atelier::cli
