#include "models/diffusers_config.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/log.h"

namespace atelier::models {
namespace {

using base::Json;

[[noreturn]] void bad(const base::JsonFields& fields, std::string_view key, const std::string& expected) {
  throw base::Error(base::ExitCode::data,
                    fmt::format("{}: {} must be {}", fields.what(), base::in_quotes(key), expected));
}

std::int64_t checked_integer(const base::JsonFields& fields, std::string_view key, const Json& value, std::int64_t low,
                             std::int64_t high) {
  const bool fits = value.is_number_unsigned() ? value.get<std::uint64_t>() <= INT64_MAX : value.is_number_integer();
  if (!fits || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high)
    bad(fields, key, fmt::format("integers from {} to {}", low, high));
  return value.get<std::int64_t>();
}

}  // namespace

void check_keys(const base::JsonFields& fields, const Json& json, std::initializer_list<std::string_view> known,
                std::initializer_list<FixedKey> fixed) {
  for (const auto& [key, value] : json.items()) {
    if (value.is_null() || key.starts_with('_')) continue;
    const auto place = std::find_if(fixed.begin(), fixed.end(), [&](const FixedKey& f) { return f.key == key; });
    if (place != fixed.end()) {
      if (value != Json::parse(place->value))
        throw base::Error(base::ExitCode::data,
                          fmt::format("{}: {} is {}, only {} is supported", fields.what(), base::in_quotes(key),
                                      base::dump_json(value), place->value));
    } else if (std::find(known.begin(), known.end(), key) == known.end() && value != Json(false)) {
      throw base::Error(base::ExitCode::data,
                        fmt::format("{}: {} is not a key that this model knows, and ignoring it could "
                                    "change results",
                                    fields.what(), base::in_quotes(key)));
    }
  }
}

std::vector<std::int64_t> integers(const base::JsonFields& fields, std::string_view key, std::size_t count,
                                   std::int64_t low, std::int64_t high, const std::vector<std::int64_t>& fallback) {
  const Json* value = fields.find(key);
  if (!value) return fallback;
  if (!value->is_array()) {
    const std::int64_t one = checked_integer(fields, key, *value, low, high);
    return std::vector<std::int64_t>(std::max<std::size_t>(count, 1), one);
  }
  if (count > 0 ? value->size() != count : value->empty() || value->size() > 16)
    bad(fields, key, count > 0 ? fmt::format("an integer or a list of {}", count) : "a list of 1 to 16 integers");
  std::vector<std::int64_t> result;
  for (const Json& item : *value) result.push_back(checked_integer(fields, key, item, low, high));
  return result;
}

std::vector<std::string> names(const base::JsonFields& fields, std::string_view key, std::size_t count,
                               std::initializer_list<std::string_view> known,
                               const std::vector<std::string>& fallback) {
  const Json* value = fields.find(key);
  if (!value && fallback.size() == count) return fallback;
  if (!value || !value->is_array() || value->size() != count)
    bad(fields, key, fmt::format("a list of {} names, one for each level", count));
  std::vector<std::string> result;
  for (const Json& item : *value) {
    if (!item.is_string() || std::find(known.begin(), known.end(), item.get<std::string>()) == known.end())
      throw base::Error(base::ExitCode::data,
                        fmt::format("{}: {} holds {}; supported are {}", fields.what(), base::in_quotes(key),
                                    base::dump_json(item), fmt::join(known, ", ")));
    result.push_back(item.get<std::string>());
  }
  return result;
}

std::vector<double> numbers(const base::JsonFields& fields, std::string_view key, std::size_t count) {
  const Json* value = fields.find(key);
  if (!value) return {};
  if (!value->is_array() || value->size() != count) bad(fields, key, fmt::format("a list of {} numbers", count));
  std::vector<double> result;
  for (const Json& item : *value) {
    if (!item.is_number()) bad(fields, key, fmt::format("a list of {} numbers", count));
    result.push_back(item.get<double>());
  }
  return result;
}

std::int64_t sample_size(const base::JsonFields& fields, std::int64_t fallback) {
  const Json* value = fields.find("sample_size");
  if (value && value->is_array() && value->size() == 2)
    return checked_integer(fields, "sample_size", value->front(), 1, 1 << 16);
  return fields.integer_or("sample_size", 1, 1 << 16, fallback);
}

}  // namespace atelier::models
