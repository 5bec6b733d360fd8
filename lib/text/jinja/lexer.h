#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace atelier::text::jinja {

/// A template that cannot be parsed.
class SyntaxError : public std::runtime_error {
 public:
  SyntaxError(const std::string& message, std::size_t line) : std::runtime_error(message), line_(line) {}
  std::size_t line() const { return line_; }

 private:
  std::size_t line_;
};

struct Token {
  enum class Kind : std::uint8_t {
    data,
    variable_begin,
    variable_end,
    block_begin,
    block_end,
    name,
    string,
    integer,
    real,
    op,
    end,
  };
  Kind kind = Kind::end;
  std::string text;  ///< of data, name, string (unescaped), op
  std::int64_t integer = 0;
  double real = 0;
  std::size_t line = 1;

  bool is_op(std::string_view op) const { return kind == Kind::op && text == op; }
  bool is_name(std::string_view name) const { return kind == Kind::name && text == name; }
};

/// Splits a template into tokens, with the white-space rules of transformers' environment (trim_blocks and
/// lstrip_blocks on, one newline at the end dropped) and `-`/`+` at the tags. Comments and raw blocks are resolved
/// here. SyntaxError. Reference: Jinja 3.1, "Whitespace Control".
std::vector<Token> tokenize(std::string_view source);

}  // namespace atelier::text::jinja
