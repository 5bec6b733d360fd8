#include "cli/values.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "cli/arguments.h"

namespace atelier::cli {

using base::Error;
using base::ExitCode;
using base::Json;

bool is_list(const CLI::Option& option) {
  if (is_flag(option)) return false;
  return option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll || option.get_items_expected_max() > 1;
}

namespace {

std::string scalar_text(const Json& value, const std::string& key) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number()) return value.dump();
  throw Error(ExitCode::usage, fmt::format("\"{}\" must be a text or a number, not {}", key,
                                           value.is_boolean() ? "true or false" : value.type_name()));
}

bool holds_number(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return !type.starts_with("TEXT") && !type.starts_with("FILE") && !type.starts_with("DIR") &&
         !type.starts_with("PATH");
}

Json typed(const CLI::Option& option, const std::string& text) {
  if (!holds_number(option)) return text;
  const char* end = text.data() + text.size();
  std::int64_t whole = 0;
  if (auto r = std::from_chars(text.data(), end, whole); r.ec == std::errc() && r.ptr == end) return whole;
  std::uint64_t large = 0;
  if (auto r = std::from_chars(text.data(), end, large); r.ec == std::errc() && r.ptr == end) return large;
  double number = 0;
  if (auto r = std::from_chars(text.data(), end, number);
      r.ec == std::errc() && r.ptr == end && std::isfinite(number)) {
    return number;
  }
  return text.empty() ? Json(nullptr) : Json(text);
}

Json effective_value(const CLI::Option& option) {
  if (is_flag(option)) return option.empty() ? false : CLI::detail::to_flag_value(option.reduced_results().back()) > 0;
  if (is_list(option)) {
    Json values = Json::array();
    for (const std::string& text : option.reduced_results()) values.push_back(typed(option, text));
    return values;
  }
  return typed(option, option.empty() ? option.get_default_str() : option.reduced_results().back());
}

}  // namespace

std::vector<std::string> option_texts(const CLI::Option& option, const Json& value, const std::string& key,
                                      bool json_text) {
  if (is_flag(option)) {
    if (!value.is_boolean()) throw Error(ExitCode::usage, fmt::format("\"{}\" must be true or false", key));
    return {value.get<bool>() ? "true" : "false"};
  }
  if (json_text && value.is_structured()) return {base::dump_json(value)};
  if (!value.is_array()) return {scalar_text(value, key)};
  if (!is_list(option)) throw Error(ExitCode::usage, fmt::format("\"{}\" takes one value, not an array", key));
  std::vector<std::string> texts;
  for (const Json& item : value) texts.push_back(scalar_text(item, key));
  return texts;
}

Json effective_options(const CLI::App& app) {
  Json options = Json::object();
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_lnames().empty() || !option->get_configurable()) continue;
    options[option->get_lnames().front()] = effective_value(*option);
  }
  return options;
}

}  // namespace atelier::cli
