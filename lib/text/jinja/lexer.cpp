#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "text/jinja/unicode.h"
#include "text/utf8.h"

namespace atelier::text::jinja {
namespace {

constexpr std::size_t kMaxTokens = 2'000'000;

bool is_name_start(char c) { return c == '_' || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'); }
bool is_decimal(char c) { return c >= '0' && c <= '9'; }

std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out.push_back(source[i] == '\r' ? '\n' : source[i]);
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize_newlines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) read_data();
    push(Token::Kind::end);
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& message) const { throw SyntaxError(message, line_); }

  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool looking_at(std::string_view text) const { return rest().starts_with(text); }

  void advance(std::size_t count) {
    line_ += static_cast<std::size_t>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                                 source_.begin() + static_cast<std::ptrdiff_t>(at_ + count), '\n'));
    at_ += count;
    if (count > 0) line_start_ = source_[at_ - 1] == '\n';
  }

  Token& push(Token::Kind kind, std::string text = {}) {
    if (tokens_.size() == kMaxTokens) fail("the template is too long");
    Token token;
    token.kind = kind;
    token.text = std::move(text);
    token.line = line_;
    tokens_.push_back(std::move(token));
    return tokens_.back();
  }

  std::size_t skip_blanks(std::size_t from) const {
    while (from < source_.size()) {
      const Utf8Step step = decode_utf8(std::string_view(source_).substr(from));
      if (!is_space(step.code_point)) break;
      from += step.length;
    }
    return from;
  }

  static std::string_view strip_right(std::string_view text) {
    while (!text.empty()) {
      std::size_t start = text.size() - 1;
      while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
      if (!is_space(decode_utf8(text.substr(start)).code_point)) break;
      text = text.substr(0, start);
    }
    return text;
  }

  /// Text in front of a tag, as the tag's sign and lstrip_blocks leave it. `sign` is what follows the tag's opening.
  std::string_view before_tag(std::string_view text, char sign, bool variable) const {
    if (sign == '-') return strip_right(text);
    if (sign == '+' || variable) return text;
    const std::size_t newline = text.rfind('\n');
    const std::size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    if (line == 0 && !line_start_) return text;
    return line < text.size() && strip_right(text.substr(line)).empty() ? text.substr(0, line) : text;
  }

  static char sign_at(std::string_view text) {
    return !text.empty() && (text[0] == '-' || text[0] == '+') ? text[0] : '\0';
  }

  void read_data() {
    const std::string_view all = rest();
    std::size_t tag = 0;
    while ((tag = all.find('{', tag)) != std::string_view::npos) {
      if (tag + 1 < all.size() && (all[tag + 1] == '{' || all[tag + 1] == '%' || all[tag + 1] == '#')) break;
      ++tag;
    }
    if (tag == std::string_view::npos) {
      push(Token::Kind::data, std::string(all));
      advance(all.size());
      return;
    }
    const char kind = all[tag + 1];
    const char sign = sign_at(all.substr(tag + 2));
    const std::string_view text = before_tag(all.substr(0, tag), sign, kind == '{');
    if (!text.empty()) push(Token::Kind::data, std::string(text));
    advance(tag + 2 + (sign ? 1 : 0));
    if (kind == '#') return skip_comment();
    if (kind == '%' && read_raw()) return;
    push(kind == '{' ? Token::Kind::variable_begin : Token::Kind::block_begin);
    read_expression(kind == '{');
  }

  /// Behind a block's end: `-%}` takes all blanks, `%}` one newline, `+%}` nothing.
  void finish_block(std::size_t sign_and_end, char sign) {
    advance(sign_and_end);
    if (sign == '-') {
      advance(skip_blanks(at_) - at_);
    } else if (sign != '+' && looking_at("\n")) {
      advance(1);
    }
  }

  void skip_comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) fail("a comment has no end");
    const char sign = end > at_ ? sign_at(std::string_view(source_).substr(end - 1)) : '\0';
    finish_block(end + 2 - at_, sign);
  }

  /// `{% raw %}` up to its `{% endraw %}`; false where the tag is another one.
  bool read_raw() {
    std::size_t at = skip_blanks(at_);
    if (!std::string_view(source_).substr(at).starts_with("raw")) return false;
    at = skip_blanks(at + 3);
    const std::string_view end = std::string_view(source_).substr(at);
    if (end.starts_with("-%}")) {
      at = skip_blanks(at + 3);
    } else if (end.starts_with("%}")) {
      at += 2;
    } else {
      return false;
    }
    advance(at - at_);
    for (std::size_t tag = at_; (tag = source_.find("{%", tag)) != std::string::npos; tag += 2) {
      const char sign = sign_at(std::string_view(source_).substr(tag + 2));
      std::size_t name = skip_blanks(tag + 2 + (sign ? 1 : 0));
      if (!std::string_view(source_).substr(name).starts_with("endraw")) continue;
      name = skip_blanks(name + 6);
      const char end_sign = sign_at(std::string_view(source_).substr(name));
      if (!std::string_view(source_).substr(name + (end_sign ? 1 : 0)).starts_with("%}")) continue;
      const std::string_view text = before_tag(std::string_view(source_).substr(at_, tag - at_), sign, false);
      if (!text.empty()) push(Token::Kind::data, std::string(text));
      finish_block(name + (end_sign ? 1 : 0) + 2 - at_, end_sign);
      return true;
    }
    fail("a raw block has no end");
  }

  void read_expression(bool variable) {
    std::string brackets;
    while (true) {
      if (at_ >= source_.size()) fail(variable ? "a {{ has no }}" : "a {% has no %}");
      if (brackets.empty() && read_end(variable)) return;
      const char c = source_[at_];
      if (const std::size_t blanks = skip_blanks(at_); blanks > at_) {
        advance(blanks - at_);
      } else if (is_name_start(c)) {
        read_name();
      } else if (is_decimal(c)) {
        read_number();
      } else if (c == '"' || c == '\'') {
        read_string();
      } else {
        read_operator(brackets);
      }
    }
  }

  bool read_end(bool variable) {
    const char sign = sign_at(rest());
    const std::string_view end = variable ? "}}" : "%}";
    if (!rest().substr(sign ? 1 : 0).starts_with(end) || (variable && sign == '+')) return false;
    push(variable ? Token::Kind::variable_end : Token::Kind::block_end);
    if (!variable) {
      finish_block((sign ? 1 : 0) + 2, sign);
    } else {
      advance((sign ? 1 : 0) + 2);
      if (sign == '-') advance(skip_blanks(at_) - at_);
    }
    return true;
  }

  void read_name() {
    std::size_t end = at_;
    while (end < source_.size() && (is_name_start(source_[end]) || is_decimal(source_[end]))) ++end;
    push(Token::Kind::name, source_.substr(at_, end - at_));
    advance(end - at_);
  }

  void read_number() {
    const auto take_digits = [this](std::size_t from, auto accept) {
      while (from < source_.size() && (accept(source_[from]) || (source_[from] == '_' && from + 1 < source_.size() &&
                                                                 accept(source_[from + 1]))))
        ++from;
      return from;
    };
    const auto at = [this](std::size_t i) { return i < source_.size() ? source_[i] : '\0'; };
    int base = 10;
    std::size_t begin = at_, end = at_;
    const char prefix = static_cast<char>(at(at_ + 1) | 0x20);
    if (at(at_) == '0' && (prefix == 'x' || prefix == 'o' || prefix == 'b')) {
      base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : 2;
      begin = at_ + 2;
      end = take_digits(begin, [base](char c) {
        const int digit = is_decimal(c) ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : 99;
        return digit < base;
      });
    } else {
      end = take_digits(at_, is_decimal);
    }
    bool real = false;
    if (base == 10) {
      if (at(end) == '.' && is_decimal(at(end + 1))) end = take_digits(end + 1, is_decimal), real = true;
      const std::size_t sign = at(end + 1) == '+' || at(end + 1) == '-' ? 1 : 0;
      if ((at(end) | 0x20) == 'e' && is_decimal(at(end + 1 + sign)))
        end = take_digits(end + 1 + sign, is_decimal), real = true;
    }
    std::string digits = source_.substr(begin, end - begin);
    std::erase(digits, '_');
    Token& token = push(real ? Token::Kind::real : Token::Kind::integer);
    const char *first = digits.data(), *last = first + digits.size();
    const auto parsed =
        real ? std::from_chars(first, last, token.real) : std::from_chars(first, last, token.integer, base);
    if (parsed.ec != std::errc() || parsed.ptr != last) fail("a number is too large or malformed");
    advance(end - at_);
  }

  void read_string() {
    const char quote = source_[at_];
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail("a string has no end");
    push(Token::Kind::string, unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    advance(end + 1 - at_);
  }

  /// Python's escapes; unknown ones stay as they are.
  std::string unescape(std::string_view text) const {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        out.push_back(text[i]);
        continue;
      }
      const char c = text[++i];
      static constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
      if (const std::size_t known = kFrom.find(c); known != std::string_view::npos) {
        out.push_back(kTo[known]);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const std::size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        append_utf8(out, code_point(text.substr(i + 1, count), count, 16));
        i += count;
      } else if (c >= '0' && c <= '7') {
        std::size_t count = 1;
        while (count < 3 && i + count < text.size() && text[i + count] >= '0' && text[i + count] <= '7') ++count;
        append_utf8(out, code_point(text.substr(i, count), count, 8));
        i += count - 1;
      } else if (c == 'N') {
        fail("characters by name (\\N) are not supported");
      } else if (c != '\n') {
        out.push_back('\\');
        out.push_back(c);
      }
    }
    return out;
  }

  std::uint32_t code_point(std::string_view digits, std::size_t count, int base) const {
    std::uint32_t value = 0;
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (digits.size() != count || parsed.ptr != digits.data() + digits.size() || parsed.ec != std::errc() ||
        value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      fail("a string has a malformed escape");
    }
    return value;
  }

  void read_operator(std::string& brackets) {
    static constexpr auto kOperators =
        std::to_array<std::string_view>({"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                         "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"});
    const auto found =
        std::find_if(kOperators.begin(), kOperators.end(), [this](std::string_view op) { return looking_at(op); });
    if (found == kOperators.end()) {
      fail(fmt::format("unexpected character '{}'", rest().substr(0, decode_utf8(rest()).length)));
    }
    const char c = (*found)[0];
    if (c == '(' || c == '[' || c == '{') brackets.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c) fail(fmt::format("unexpected '{}'", c));
      brackets.pop_back();
    }
    push(Token::Kind::op, std::string(*found));
    advance(found->size());
  }

  std::string source_;
  std::size_t at_ = 0, line_ = 1;
  bool line_start_ = true;  ///< the last character that was taken ended a line
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace atelier::text::jinja
