#include "base/toml.h"

#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"

namespace atelier::base {

namespace {

constexpr int kMaxDepth = 16;

void append_utf8(std::string& out, std::uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    out += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
            static_cast<char>(0x80 | (c & 0x3F))};
  } else {
    out += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
            static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
  }
}

class TomlParser {
 public:
  TomlParser(std::string_view text, const std::string& name, TomlTables tables)
      : text_(text), name_(name), tables_(tables) {
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;
  }

  Json document() {
    Json root = Json::object();
    Json* table = &root;  // stays valid while nothing above it is added to, and headers look it up anew
    for (skip_blank_lines(); !end(); skip_blank_lines()) {
      if (peek() == '[') {
        table = &open_table(root);
        continue;
      }
      const std::string key = parse_key();
      if (table->contains(key)) fail(fmt::format("\"{}\" is there twice", key));
      (*table)[key] = value(0);
      end_of_line();
    }
    return root;
  }

 private:
  bool end() const { return at_ >= text_.size(); }
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ExitCode::data, fmt::format("{}: line {}: {}", name_, line_, what));
  }

  char take() {
    if (end()) fail("the file ends in the middle of a value");
    const char c = text_[at_++];
    if (c == '\n') ++line_;
    return c;
  }

  void skip_blanks() {
    while (peek() == ' ' || peek() == '\t') ++at_;
  }

  void skip_comment() {
    if (peek() != '#') return;
    while (!end() && peek() != '\n') ++at_;
  }

  void skip_blank_lines() {
    for (;;) {
      skip_blanks();
      skip_comment();
      if (peek() == '\r' && peek(1) == '\n') ++at_;
      if (end() || peek() != '\n') return;
      take();
    }
  }

  void end_of_line() {
    skip_blanks();
    skip_comment();
    if (peek() == '\r' && peek(1) == '\n') ++at_;
    if (!end() && take() != '\n') fail("one `flag = value` per line; something follows the value");
  }

  /// `[a.b]` or `[[a.b]]`: the table that the lines below it are for. Of an array of tables that is the last one.
  Json& open_table(Json& root) {
    if (tables_ == TomlTables::refused) fail("tables are not used here: write one `flag = value` per line");
    take();
    const bool of_array = peek() == '[';
    if (of_array) take();
    const std::vector<std::string> names = table_names();
    for (int i = 0; i < (of_array ? 2 : 1); ++i, take())
      if (peek() != ']') fail("a table's name must end in a bracket");
    end_of_line();
    Json* at = &root;
    std::string place;  // every array's index in it, so that each of its tables can have tables of its own
    for (std::size_t i = 0; i < names.size(); ++i) {
      const bool last = i + 1 == names.size();
      if (!at->contains(names[i])) (*at)[names[i]] = last && of_array ? Json::array() : Json::object();
      at = &(*at)[names[i]];
      place += fmt::format("/{}", names[i]);
      if (last && of_array) {
        if (!at->is_array() || (!at->empty() && !at->front().is_object()))
          fail(fmt::format("\"{}\" is no array of tables", names[i]));
        at->push_back(Json::object());
      }
      if (at->is_array()) {
        if (at->empty() || !at->back().is_object()) fail(fmt::format("\"{}\" is no table", names[i]));
        place += fmt::format("/{}", at->size());
        at = &at->back();
      }
      if (!at->is_object()) fail(fmt::format("\"{}\" is no table", names[i]));
    }
    if (!of_array && !opened_.insert(place).second) fail(fmt::format("the table \"{}\" is there twice", names.back()));
    return *at;
  }

  std::vector<std::string> table_names() {
    std::vector<std::string> names;
    for (;;) {
      skip_blanks();
      names.push_back(bare_or_quoted());
      if (names.back().empty()) fail("a table's name is missing");
      if (names.size() > static_cast<std::size_t>(kMaxDepth)) fail("tables are nested too deep");
      skip_blanks();
      if (peek() != '.') return names;
      take();
    }
  }

  std::string bare_or_quoted() {
    if (peek() == '"' || peek() == '\'') return parse_string();
    std::string key;
    while (std::isalnum(static_cast<unsigned char>(peek())) || peek() == '-' || peek() == '_') key += take();
    return key;
  }

  std::string parse_key() {
    const std::string key = bare_or_quoted();
    skip_blanks();
    if (peek() == '.') fail("dotted keys are not used here");
    if (key.empty() || peek() != '=') fail("expected `flag = value`");
    ++at_;
    skip_blanks();
    return key;
  }

  Json value(int depth) {
    if (depth > kMaxDepth) fail("arrays are nested too deep");
    const char c = peek();
    if (c == '"' || c == '\'') return parse_string();
    if (c == '[') return array(depth);
    if (c == '{') fail("inline tables are not used here");
    return bare_value();
  }

  Json array(int depth) {
    Json items = Json::array();
    for (take();;) {
      skip_blank_lines();
      if (peek() == ']') break;
      items.push_back(value(depth + 1));
      skip_blank_lines();
      if (peek() == ']') break;
      if (take() != ',') fail("expected `,` or `]` in an array");
    }
    ++at_;
    return items;
  }

  std::string parse_string() {
    const char quote = peek();
    if (peek(1) == quote && peek(2) == quote) return multi_line_string(quote);
    ++at_;
    if (peek() == '\n') fail("a text must end on its line (or stand in three quotes)");
    std::string out;
    for (char c = take(); c != quote; c = take()) {
      if (c == '\\' && quote == '"') {
        escape(out);
      } else {
        text_byte(out, c);
      }
      if (peek() == '\n') fail("a text must end on its line (or stand in three quotes)");
    }
    return out;
  }

  std::string multi_line_string(char quote) {
    at_ += 3;
    if (peek() == '\r' && peek(1) == '\n') ++at_;
    if (peek() == '\n') take();
    std::string out;
    while (!(peek() == quote && peek(1) == quote && peek(2) == quote && peek(3) != quote)) {
      const char c = take();
      if (c == '\\' && quote == '"') {
        line_end_or_escape(out);
      } else {
        text_byte(out, c);
      }
    }
    at_ += 3;
    return out;
  }

  // A backslash at the end of a line joins it with the next text.
  void line_end_or_escape(std::string& out) {
    std::size_t blank = at_;
    while (blank < text_.size() && (text_[blank] == ' ' || text_[blank] == '\t' || text_[blank] == '\r')) ++blank;
    if (blank >= text_.size() || text_[blank] != '\n') return escape(out);
    while (peek() == ' ' || peek() == '\t' || peek() == '\r' || peek() == '\n') take();
  }

  void text_byte(std::string& out, char c) const {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F)
      fail("a control character in a text; write it as \\u00XX");
    out += c;
  }

  void escape(std::string& out) {
    switch (const char c = take()) {
      case 'b': out += '\b'; break;
      case 't': out += '\t'; break;
      case 'n': out += '\n'; break;
      case 'f': out += '\f'; break;
      case 'r': out += '\r'; break;
      case '"': out += '"'; break;
      case '\\': out += '\\'; break;
      case 'u': append_utf8(out, code_point(4)); break;
      case 'U': append_utf8(out, code_point(8)); break;
      default: fail(fmt::format("unknown escape \\{}", c));
    }
  }

  std::uint32_t code_point(int digits) {
    std::uint32_t c = 0;
    for (int i = 0; i < digits; ++i) {
      const char d = take();
      if (!std::isxdigit(static_cast<unsigned char>(d))) fail("expected hexadecimal digits after \\u");
      c = c << 4 | static_cast<std::uint32_t>(d <= '9' ? d - '0' : (d | 0x20) - 'a' + 10);
    }
    if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) fail("\\u names no character");
    return c;
  }

  Json bare_value() {
    std::string word;
    while (!end() && std::string_view(" \t\r\n,]#").find(peek()) == std::string_view::npos) word += take();
    if (word == "true") return true;
    if (word == "false") return false;
    return number(word);
  }

  Json number(const std::string& word) const {
    const std::string digits = without_separators(word);
    const char* end = digits.data() + digits.size();
    const auto whole_text = [end](const std::from_chars_result& r) { return r.ec == std::errc() && r.ptr == end; };
    std::uint64_t large = 0;
    std::int64_t whole = 0;
    double real = 0;
    if (const int base = radix(digits); base != 10) {
      if (whole_text(std::from_chars(digits.data() + 2, end, large, base))) return large;
    } else if (!has_leading_zero(digits)) {
      if (whole_text(std::from_chars(digits.data(), end, whole))) return whole;
      if (whole_text(std::from_chars(digits.data(), end, large))) return large;
      const bool fraction = digits.find_first_of(".eE") != std::string::npos;
      if (fraction && whole_text(std::from_chars(digits.data(), end, real)) && std::isfinite(real)) return real;
    }
    fail(word.empty() ? "a value is missing" : fmt::format("\"{}\" is not a value (texts stand in quotes)", word));
  }

  // 1_000: an underscore stands between two digits.
  std::string without_separators(const std::string& word) const {
    const auto digit = [&word](std::size_t i) {
      return i < word.size() && std::isxdigit(static_cast<unsigned char>(word[i]));
    };
    std::string out;
    for (std::size_t i = 0; i < word.size(); ++i) {
      if (word[i] != '_')
        out += word[i];
      else if (i == 0 || !digit(i - 1) || !digit(i + 1))
        fail(fmt::format("\"{}\" is not a value", word));
    }
    return out.starts_with('+') ? out.substr(1) : out;
  }

  static int radix(std::string_view digits) {
    return digits.starts_with("0x") ? 16 : digits.starts_with("0o") ? 8 : digits.starts_with("0b") ? 2 : 10;
  }

  static bool has_leading_zero(std::string_view digits) {
    if (digits.starts_with('-')) digits.remove_prefix(1);
    return digits.size() > 1 && digits[0] == '0' && std::isdigit(static_cast<unsigned char>(digits[1]));
  }

  std::string_view text_;
  const std::string& name_;
  TomlTables tables_;
  std::set<std::string> opened_;  // places of [tables]
  std::size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

Json parse_toml(std::string_view text, const std::string& name, TomlTables tables) {
  return TomlParser(text, name, tables).document();
}

}  // namespace atelier::base
