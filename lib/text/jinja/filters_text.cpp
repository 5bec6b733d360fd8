#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>

#include <fmt/format.h>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace atelier::text::jinja {
namespace {

template <Case to>
Value case_filter(const Value& value, const Arguments& arguments) {
  const Bound bound("upper, lower or capitalize", arguments, {});
  return Value::text(change_case(to_text(value), to));
}

/// Unlike str.title, words begin only behind blanks and opening brackets, and hyphens.
Value title(const Value& value, const Arguments& arguments) {
  const Bound bound("title", arguments, {});
  const TrackedText text = to_text(value);
  TrackedText out;
  bool first = true;
  for (const Character& c : characters(text)) {
    for (const char32_t m : first ? to_upper(c.code_point) : to_lower(c.code_point))
      out.append_code_point(m, text.trusted(c.offset));
    first = is_space(c.code_point) ||
            (c.code_point < 0x80 &&
             std::string_view("-({[<").find(static_cast<char>(c.code_point)) != std::string_view::npos);
  }
  return Value::text(std::move(out));
}

Value trim(const Value& value, const Arguments& arguments) {
  const Bound bound("trim", arguments, {"chars"});
  if (!bound.has(0) || bound[0].is_none()) return Value::text(strip(to_text(value), nullptr, Side::both));
  const std::string chars = bound.need_text(0).bytes();
  return Value::text(strip(to_text(value), &chars, Side::both));
}

Value replace_filter(const Value& value, const Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"});
  const std::int64_t count = bound.has(2) && !bound[2].is_none() ? bound.integer(2, -1) : -1;
  return Value::text(replace(to_text(value), to_text(bound.need(0)).bytes(), to_text(bound.need(1)), count));
}

Value string(const Value& value, const Arguments& arguments) {
  const Bound bound("string", arguments, {});
  return Value::text(to_text(value));
}

Value indent(const Value& value, const Arguments& arguments) {
  const Bound bound("indent", arguments, {"width", "first", "blank"});
  if (!value.is_text()) throw Failure(fmt::format("indent needs a string, not {}", value.type_name()));
  const TrackedText by =
      bound.has(0) && bound[0].is_text() ? bound[0].as_text() : repeat(TrackedText(" ", true), bound.integer(0, 4));
  TrackedText text = value.as_text();
  text.append("\n", text.empty() || text.trusted(text.size() - 1));  // Jinja's way to keep an empty last line
  TrackedText out;
  bool at_first = true, trusted = true;
  for (const TrackedText& line : split_lines(text, false)) {
    if (!line.empty()) trusted = line.trusted(0);
    // What is added is no more trusted than the line that it is added to.
    const auto add = [&](const TrackedText& part) { trusted ? out.append(part) : out.append(part.bytes(), false); };
    if (!at_first) add(TrackedText("\n", true));
    if (at_first ? bound.flag(1) : bound.flag(2) || !line.empty()) add(by);
    at_first = false;
    out.append(line);
  }
  return Value::text(std::move(out));
}

Value escape(const Value& value, const Arguments& arguments) {
  const Bound bound("escape", arguments, {});
  const TrackedText text = to_text(value);
  TrackedText out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text.bytes()[i];
    const std::string_view entity = c == '&'    ? "&amp;"
                                    : c == '<'  ? "&lt;"
                                    : c == '>'  ? "&gt;"
                                    : c == '\'' ? "&#39;"
                                    : c == '"'  ? "&#34;"
                                                : "";
    entity.empty() ? out.append(text, i, 1) : out.append(entity, text.trusted(i));
  }
  return Value::text(std::move(out));
}

Value format_filter(const Value& value, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.keyword.empty())
    throw Failure("format takes values by position or by name, not both");
  if (arguments.keyword.empty())
    return Value::text(format_percent(to_text(value), Value::list(arguments.positional, List::Kind::tuple)));
  Dict values;
  for (const auto& [name, argument] : arguments.keyword) values.set(Value::text(name, true), argument);
  return Value::text(format_percent(to_text(value), Value::dict(std::move(values))));
}

Value wordcount(const Value& value, const Arguments& arguments) {
  const Bound bound("wordcount", arguments, {});
  std::int64_t words = 0;
  bool inside = false;
  for (const Character& c : characters(to_text(value))) {
    const bool word = is_alpha(c.code_point) || is_digit(c.code_point) || c.code_point == '_';
    words += word && !inside;
    inside = word;
  }
  return Value::integer(words);
}

Value tojson(const Value& value, const Arguments& arguments) {
  const Bound bound("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.flag(0);
  style.sort_keys = bound.flag(3);
  if (bound.has(1) && !bound[1].is_none()) {
    style.indent =
        bound[1].is_text() ? bound[1].as_text().bytes() : repeat(TrackedText(" ", true), bound.integer(1, 0)).bytes();
    style.item_separator = ",";
  }
  if (bound.has(2) && !bound[2].is_none()) {
    const auto separators = iterate(bound[2]);
    if (separators.size() != 2 || !separators[0].is_text() || !separators[1].is_text())
      throw Failure("tojson: separators must be two strings");
    style.item_separator = separators[0].as_text().bytes();
    style.key_separator = separators[1].as_text().bytes();
  }
  return Value::text(to_json(value, style));
}

/// A number as int() and float() read it: blanks around it, and single underscores between digits.
std::string number_text(const TrackedText& text) {
  const std::string stripped = strip(text, nullptr, Side::both).bytes();
  std::string out;
  for (std::size_t i = 0; i < stripped.size(); ++i) {
    const bool between = i > 0 && i + 1 < stripped.size() &&
                         std::isalnum(static_cast<unsigned char>(stripped[i - 1])) &&
                         std::isalnum(static_cast<unsigned char>(stripped[i + 1]));
    if (stripped[i] != '_' || !between) out.push_back(stripped[i]);
  }
  return out;
}

std::optional<double> parse_real(const TrackedText& text) {
  std::string number = number_text(text);
  if (number.starts_with('+') && number.size() > 1 && number[1] != '-') number.erase(0, 1);
  double value = 0;
  const auto parsed = std::from_chars(number.data(), number.data() + number.size(), value);
  if (parsed.ptr != number.data() + number.size() || parsed.ec == std::errc::invalid_argument) return std::nullopt;
  return parsed.ec == std::errc::result_out_of_range ? std::strtod(number.c_str(), nullptr) : value;
}

std::optional<std::int64_t> parse_integer(const TrackedText& text, int base) {
  std::string number = number_text(text);
  const bool negative = number.starts_with('-');
  if (negative || number.starts_with('+')) number.erase(0, 1);
  const auto has_prefix = [&number](char letter) {
    return number.size() > 2 && number[0] == '0' && (number[1] | 0x20) == letter;
  };
  if ((base == 16 && has_prefix('x')) || (base == 8 && has_prefix('o')) || (base == 2 && has_prefix('b')))
    number.erase(0, 2);
  if (number.empty() || !std::isalnum(static_cast<unsigned char>(number[0]))) return std::nullopt;
  number.insert(0, negative ? "-" : "");
  std::int64_t value = 0;
  const auto parsed = std::from_chars(number.data(), number.data() + number.size(), value, base);
  if (parsed.ec == std::errc::result_out_of_range) throw Failure("an integer is too large");
  if (parsed.ec != std::errc() || parsed.ptr != number.data() + number.size()) return std::nullopt;
  return value;
}

std::int64_t truncate(double number) {
  if (std::isnan(number) || std::fabs(number) >= 9.2e18) throw Failure("a number is too large for an integer");
  return static_cast<std::int64_t>(number);
}

Value int_filter(const Value& value, const Arguments& arguments) {
  const Bound bound("int", arguments, {"default", "base"});
  const Value fallback = bound.has(0) ? bound[0] : Value::integer(0);
  const std::int64_t base = bound.integer(1, 10);
  if (base < 2 || base > 36) throw Failure("int: the base must be 2 to 36");
  if (value.is_undefined()) throw Failure(value.as_undefined().what);
  if (value.is_real()) return Value::integer(truncate(value.as_real()), value.trusted());
  if (value.is_number()) return Value::integer(value.as_integer(), value.trusted());
  if (!value.is_text()) return fallback;
  const bool trusted = value.as_text().all_trusted();
  if (const auto number = parse_integer(value.as_text(), static_cast<int>(base)))
    return Value::integer(*number, trusted);
  const auto real = parse_real(value.as_text());
  return real && std::isfinite(*real) ? Value::integer(truncate(*real), trusted) : fallback;
}

Value float_filter(const Value& value, const Arguments& arguments) {
  const Bound bound("float", arguments, {"default"});
  if (value.is_undefined()) throw Failure(value.as_undefined().what);
  if (value.is_number()) return Value::real(value.as_real(), value.trusted());
  if (value.is_text()) {
    if (const auto number = parse_real(value.as_text())) return Value::real(*number, value.as_text().all_trusted());
  }
  return bound.has(0) ? bound[0] : Value::real(0);
}

/// Python's round(): the decimal that lies nearest to the number's exact value, ties to even.
double round_real(double number, std::int64_t precision) {
  if (!std::isfinite(number) || precision > 300) return number;
  if (precision < -300) return 0;
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(number / scale) * scale;
  }
  char buffer[800];
  std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), number);
  return std::strtod(buffer, nullptr);
}

Value round_filter(const Value& value, const Arguments& arguments) {
  const Bound bound("round", arguments, {"precision", "method"});
  const std::int64_t precision = bound.integer(0, 0);
  const std::string how = bound.has(1) ? bound.need_text(1).bytes() : "common";
  if (!value.is_number())
    throw Failure(value.is_undefined() ? value.as_undefined().what
                                       : fmt::format("round needs a number, not {}", value.type_name()));
  if (how == "common") {
    if (value.is_real()) return Value::real(round_real(value.as_real(), precision), value.trusted());
    if (precision >= 0) return Value::integer(value.as_integer(), value.trusted());
    return Value::integer(truncate(round_real(value.as_real(), precision)), value.trusted());
  }
  if (how != "ceil" && how != "floor") throw Failure("round: the method must be common, ceil or floor");
  const double scale = std::pow(10.0, static_cast<double>(precision)), scaled = value.as_real() * scale;
  return Value::real((how == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale, value.trusted());
}

Value abs_filter(const Value& value, const Arguments& arguments) {
  const Bound bound("abs", arguments, {});
  if (value.is_real()) return Value::real(std::fabs(value.as_real()), value.trusted());
  if (!value.is_number())
    throw Failure(value.is_undefined() ? value.as_undefined().what
                                       : fmt::format("abs needs a number, not {}", value.type_name()));
  return value.as_integer() < 0 ? negate(value) : Value::integer(value.as_integer(), value.trusted());
}

}  // namespace

Filter find_text_filter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> filters = {{"upper", case_filter<Case::upper>},
                                                                       {"lower", case_filter<Case::lower>},
                                                                       {"capitalize", case_filter<Case::capitalize>},
                                                                       {"title", title},
                                                                       {"trim", trim},
                                                                       {"replace", replace_filter},
                                                                       {"string", string},
                                                                       {"safe", string},
                                                                       {"indent", indent},
                                                                       {"escape", escape},
                                                                       {"e", escape},
                                                                       {"forceescape", escape},
                                                                       {"format", format_filter},
                                                                       {"wordcount", wordcount},
                                                                       {"tojson", tojson},
                                                                       {"int", int_filter},
                                                                       {"float", float_filter},
                                                                       {"round", round_filter},
                                                                       {"abs", abs_filter}};
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : found->second;
}

}  // namespace atelier::text::jinja
