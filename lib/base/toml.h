#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace atelier::base {

/// Reads the part of TOML 1.0 that a file of settings needs: `key = value` with bare or quoted keys, comments, all four
/// kinds of strings, integers (decimal, 0x, 0o, 0b), floats, booleans, and arrays over several lines. Inline
/// tables, dotted keys and dates are refused by name; so are [tables] and [[arrays of tables]] unless they are allowed (no
/// flag takes one). Returns an object in file order. `name` (the file's)
/// and the line start every message: Error(data). Reference: https://toml.io/en/v1.0.0
enum class TomlTables { refused, allowed };
Json parse_toml(std::string_view text, const std::string& name, TomlTables tables = TomlTables::refused);

}  // namespace atelier::base
