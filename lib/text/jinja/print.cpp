#include "text/jinja/print.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "text/jinja/budget.h"
#include "text/jinja/unicode.h"
#include "text/utf8.h"

namespace atelier::text::jinja {
namespace {

/// Collects plain bytes, and whether everything that went in was trusted.
struct Collector {
  std::string bytes;
  bool trusted = true;

  void put(std::string_view text) {
    Budget::bytes(text.size());
    bytes.append(text);
  }
  void put(const TrackedText& text) {
    put(text.bytes());
    trusted = trusted && text.all_trusted();
  }
};

void put_escaped(Collector& out, std::uint32_t c) {
  out.put(c < 0x100     ? fmt::format("\\x{:02x}", c)
          : c < 0x10000 ? fmt::format("\\u{:04x}", c)
                        : fmt::format("\\U{:08x}", c));
}

void put_repr(Collector& out, const TrackedText& text) {
  out.trusted = out.trusted && text.all_trusted();
  const std::string& bytes = text.bytes();
  const bool single = bytes.find('\'') == std::string::npos || bytes.find('"') != std::string::npos;
  const char quote = single ? '\'' : '"';
  out.put(std::string_view(&quote, 1));
  for (const Character& c : characters(text)) {
    switch (c.code_point) {
      case '\n': out.put("\\n"); break;
      case '\r': out.put("\\r"); break;
      case '\t': out.put("\\t"); break;
      case '\\': out.put("\\\\"); break;
      default:
        if (c.code_point == static_cast<unsigned char>(quote)) {
          out.put(fmt::format("\\{}", quote));
        } else if (is_printable(c.code_point)) {
          out.put(std::string_view(bytes).substr(c.offset, c.length));
        } else {
          put_escaped(out, c.code_point);
        }
    }
  }
  out.put(std::string_view(&quote, 1));
}

void put_value(Collector& out, const Value& value, bool nested);

void put_list(Collector& out, const List& list) {
  if (list.kind == List::Kind::generator) throw Failure("a generator has no text; put `| list` behind it");
  const bool tuple = list.kind == List::Kind::tuple;
  out.put(tuple ? "(" : "[");
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out.put(", ");
    put_value(out, list.items[i], true);
  }
  if (tuple && list.items.size() == 1) out.put(",");
  out.put(tuple ? ")" : "]");
}

void put_dict(Collector& out, const Dict& dict) {
  out.put("{");
  bool first = true;
  for (const auto& [key, value] : dict.entries()) {
    if (!first) out.put(", ");
    first = false;
    put_value(out, key, true);
    out.put(": ");
    put_value(out, value, true);
  }
  out.put("}");
}

void put_value(Collector& out, const Value& value, bool nested) {
  const Budget::Descent descent;
  Budget::step();
  if (value.is_text()) return nested ? put_repr(out, value.as_text()) : out.put(value.as_text());
  if (value.is_list()) return put_list(out, value.as_list());
  if (value.is_dict()) return put_dict(out, value.as_dict());
  out.trusted = out.trusted && value.trusted();
  if (value.is_undefined()) return out.put(nested ? "Undefined" : "");
  if (value.is_none()) return out.put("None");
  if (value.is_boolean()) return out.put(value.as_boolean() ? "True" : "False");
  if (value.is_integer()) return out.put(std::to_string(value.as_integer()));
  if (value.is_real()) return out.put(format_real(value.as_real()));
  throw Failure(fmt::format("a {} has no text", value.type_name()));
}

std::string json_string(const std::string& text, bool ensure_ascii) {
  std::string out = "\"";
  std::string_view rest = text;
  while (!rest.empty()) {
    const Utf8Step step = decode_utf8(rest);
    const std::uint32_t c = step.code_point;
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      default:
        if (c < 0x20 || (ensure_ascii && c >= 0x7F && c < 0x10000)) {
          out += fmt::format("\\u{:04x}", c);
        } else if (ensure_ascii && c >= 0x10000) {
          out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + (c & 0x3FF));
        } else {
          out += rest.substr(0, step.length);
        }
    }
    rest.remove_prefix(step.length);
  }
  return out += '"';
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  void put(const Value& value, std::size_t level) {
    const Budget::Descent descent;
    Budget::step();
    if (value.is_text()) {
      out.trusted = out.trusted && value.as_text().all_trusted();
      return out.put(json_string(value.as_text().bytes(), style_.ensure_ascii));
    }
    if (value.is_list() && value.as_list().kind != List::Kind::generator) return put_list(value.as_list(), level);
    if (value.is_dict()) return put_dict(value.as_dict(), level);
    out.trusted = out.trusted && value.trusted();
    out.put(scalar(value));
  }

  Collector out;

 private:
  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is_boolean()) return value.as_boolean() ? "true" : "false";
    if (value.is_integer()) return std::to_string(value.as_integer());
    if (!value.is_real()) throw Failure(fmt::format("{} is not JSON serializable", value.type_name()));
    const double number = value.as_real();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
    return format_real(number);
  }

  void new_line(std::size_t level) {
    if (!style_.indent) return;
    out.put("\n");
    for (std::size_t i = 0; i < level; ++i) out.put(*style_.indent);
  }

  void put_list(const List& list, std::size_t level) {
    if (list.items.empty()) return out.put("[]");
    out.put("[");
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out.put(style_.item_separator);
      new_line(level + 1);
      put(list.items[i], level + 1);
    }
    new_line(level);
    out.put("]");
  }

  void put_dict(const Dict& dict, std::size_t level) {
    if (dict.size() == 0) return out.put("{}");
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return less(a->first, b->first); });
    }
    out.put("{");
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out.put(style_.item_separator);
      new_line(level + 1);
      const Value& key = entries[i]->first;
      const bool is_text = key.is_text();
      out.trusted = out.trusted && (is_text ? key.as_text().all_trusted() : key.trusted());
      out.put(json_string(is_text ? key.as_text().bytes() : scalar(key), style_.ensure_ascii));
      out.put(style_.key_separator);
      put(entries[i]->second, level + 1);
    }
    new_line(level);
    out.put("}");
  }

  const JsonStyle& style_;
};

}  // namespace

std::string format_real(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view all(buffer, static_cast<std::size_t>(end - buffer));  // d.ddde+XX
  const std::size_t e = all.find('e');
  int exponent = 0;
  std::from_chars(all.data() + e + (all[e + 1] == '+' ? 2 : 1), all.data() + all.size(), exponent);
  std::string digits;
  for (const char c : all.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  std::string out = all[0] == '-' ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (digits.size() > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02d}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

TrackedText to_text(const Value& value) {
  if (value.is_text()) return value.as_text();
  Collector out;
  put_value(out, value, false);
  return TrackedText(out.bytes, out.trusted);
}

TrackedText to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.put(value, 0);
  return TrackedText(writer.out.bytes, writer.out.trusted);
}

}  // namespace atelier::text::jinja
