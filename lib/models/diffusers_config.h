#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace atelier::models {

/// A key that this project supports with one value only, written as JSON ("false", "\"default\"", "1.0").
struct FixedKey {
  std::string_view key;
  std::string_view value;
};

/// Checks the keys of a diffusers config.json: those of `fixed` must be absent, null or equal to their value; any other key
/// must be in `known`, begin with an underscore, or be null or false. Otherwise results would differ from diffusers' unnoticed:
/// Error(data) naming the key.
void check_keys(const base::JsonFields& fields, const base::Json& json, std::initializer_list<std::string_view> known,
                std::initializer_list<FixedKey> fixed);

/// A key that holds one integer for every level, or a list with one for each of `count` levels (0: a list of any length from 1
/// to 16).
std::vector<std::int64_t> integers(const base::JsonFields& fields, std::string_view key, std::size_t count,
                                   std::int64_t low, std::int64_t high, const std::vector<std::int64_t>& fallback);

/// A list of `count` strings, each one of `known`.
std::vector<std::string> names(const base::JsonFields& fields, std::string_view key, std::size_t count,
                               std::initializer_list<std::string_view> known, const std::vector<std::string>& fallback);

/// A list of numbers, or nothing where the key is absent.
std::vector<double> numbers(const base::JsonFields& fields, std::string_view key, std::size_t count);

/// sample_size: one integer, or [height, width], of which the first counts.
std::int64_t sample_size(const base::JsonFields& fields, std::int64_t fallback);

}  // namespace atelier::models
