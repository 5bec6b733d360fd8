#include "cli/validators.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/memory.h"

namespace atelier::cli {

namespace {

// Names of the validators, by which harden knows numbers whose type name the tool has changed.
constexpr const char *kWhole = "whole", *kNumber = "number";

bool is_whole_number(std::string_view text) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// CLI11 hands the text to strtoll with base 0: leading zeros would make it octal.
void drop_leading_zeros(std::string& text) {
  const bool negative = text[0] == '-';
  std::size_t digit = text.find_first_not_of("+-0");
  if (digit == std::string::npos) digit = text.size() - 1;
  text = (negative ? "-" : "") + text.substr(digit);
}

// `Number` is the widest type of the flag's signedness; CLI11 checks narrower ones.
template <class Number>
std::string strict_whole(std::string& text) {
  if (!is_whole_number(text)) return fmt::format("\"{}\" is not a whole number", text);
  drop_leading_zeros(text);
  Number number{};
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  if (result.ec == std::errc() && result.ptr == end) return {};
  return text[0] == '-' && std::is_unsigned_v<Number> ? fmt::format("{} is negative", text)
                                                      : fmt::format("{} is too large", text);
}

bool read_number(std::string_view text, double& number) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && std::isfinite(number);
}

std::string strict_number(std::string& text) {
  double number = 0;
  return read_number(text, number) ? "" : fmt::format("\"{}\" is not a number", text);
}

bool has_validator(CLI::Option& option, const char* name) {
  try {
    option.get_validator(name);
    return true;
  } catch (const CLI::OptionNotFound&) {
    return false;
  }
}

std::string quoted_choice_error(const std::string& value, const std::vector<std::string>& choices) {
  return fmt::format("\"{}\" is not one of {}", value, fmt::join(choices, ", "));
}

}  // namespace

CLI::Validator in_range(double low, double high) {
  return CLI::Validator(
      [low, high](std::string& text) -> std::string {
        double number = 0;
        if (!read_number(text, number)) return fmt::format("\"{}\" is not a number", text);
        if (number < low || number > high) return fmt::format("{} is not between {} and {}", text, low, high);
        return {};
      },
      "", kNumber);
}

CLI::Validator whole_in_range(long long low, long long high) {
  return CLI::Validator(
      [low, high](std::string& text) -> std::string {
        if (!is_whole_number(text)) return fmt::format("\"{}\" is not a whole number", text);
        const char* begin = text.data() + (text[0] == '+' ? 1 : 0);
        const char* end = text.data() + text.size();
        long long number = 0;
        const auto result = std::from_chars(begin, end, number);
        if (result.ec != std::errc() || number < low || number > high) {
          return fmt::format("{} is not between {} and {}", text, low, high);
        }
        return {};
      },
      "", kWhole);
}

CLI::Validator one_of(std::vector<std::string> choices) {
  std::string description = fmt::format("{{{}}}", fmt::join(choices, ","));
  return CLI::Validator(
      [choices = std::move(choices)](std::string& value) {
        return std::find(choices.begin(), choices.end(), value) != choices.end() ? ""
                                                                                 : quoted_choice_error(value, choices);
      },
      std::move(description));
}

CLI::Validator device_name() {
  return CLI::Validator(
      [](std::string& value) -> std::string {
        if (value == "auto" || value == "cpu" || value == "cuda") return {};
        if (value.starts_with("cuda:") && value.size() <= 8 && value.size() > 5 &&
            std::all_of(value.begin() + 5, value.end(), [](char c) { return c >= '0' && c <= '9'; })) {
          return {};
        }
        return quoted_choice_error(value, {"auto", "cpu", "cuda", "cuda:N"});
      },
      "{auto,cpu,cuda}");
}

CLI::Validator byte_size() {
  return CLI::Validator(
      [](std::string& value) -> std::string {
        try {
          base::parse_bytes(value);
        } catch (const base::Error&) {
          return fmt::format("\"{}\" is not a size such as 4G, 512M or 1.5GiB", value);
        }
        return {};
      },
      "");
}

std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const std::size_t open = type.find('{'), close = type.find('}');
  if (open == std::string::npos || close == std::string::npos || close < open + 2) return {};
  return CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
}

void harden(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    if (option->get_items_expected_max() == 0) continue;
    if (type.starts_with("UINT")) {
      option->transform(CLI::Validator(strict_whole<std::uint64_t>, ""));
    } else if (type.starts_with("INT") || has_validator(*option, kWhole)) {
      option->transform(CLI::Validator(strict_whole<std::int64_t>, ""));
    } else if (type.starts_with("FLOAT")) {
      option->transform(CLI::Validator(strict_number, ""));
    }
    if (option->get_items_expected_max() > 1) {
      option->allow_extra_args(option->get_positional());
    } else if (option->get_multi_option_policy() == CLI::MultiOptionPolicy::Throw) {
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
  }
  for (CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) harden(*sub);
}

}  // namespace atelier::cli
