#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/json.h"

namespace atelier::cli {

/// Whether the flag collects several values.
bool is_list(const CLI::Option& option);

/// The texts that a JSON (or TOML) value stands for on the command line: one, or one per element for a flag that
/// collects several; "true" or "false" for a flag without value. With `json_text` objects and arrays are passed on as
/// compact JSON. Error(usage) where the kind does not suit the flag; `key` is named in it.
std::vector<std::string> option_texts(const CLI::Option& option, const base::Json& value, const std::string& key,
                                      bool json_text = false);

/// Every flag's effective value by its long name: numbers, booleans, texts, arrays; null where it has none.
base::Json effective_options(const CLI::App& app);

}  // namespace atelier::cli
