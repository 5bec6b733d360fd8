#include "image/vector/numbers.h"

#include <charconv>
#include <cmath>
#include <system_error>

namespace atelier::image {
namespace {

constexpr double kLargest = 1e9;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

void NumberReader::skip_blanks() {
  while (!rest_.empty() && is_blank(rest_.front())) rest_.remove_prefix(1);
}

void NumberReader::skip_separator() {
  skip_blanks();
  if (!rest_.empty() && rest_.front() == ',') rest_.remove_prefix(1);
  skip_blanks();
}

std::optional<double> NumberReader::number() {
  std::string_view text = rest_;
  if (text.starts_with('+')) text.remove_prefix(1);
  const std::size_t digits = text.starts_with('-') && text.size() == rest_.size() ? 1 : 0;
  const bool fraction = text.size() > digits + 1 && text[digits] == '.' && is_digit(text[digits + 1]);
  if (text.size() <= digits || !(is_digit(text[digits]) || fraction)) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !(std::abs(value) <= kLargest)) return std::nullopt;
  rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
  return value;
}

std::optional<bool> NumberReader::flag() {
  if (rest_.empty() || (rest_.front() != '0' && rest_.front() != '1')) return std::nullopt;
  const bool value = rest_.front() == '1';
  rest_.remove_prefix(1);
  return value;
}

std::optional<double> parse_number(std::string_view text) {
  NumberReader reader(trim(text));
  const std::optional<double> value = reader.number();
  return reader.done() ? value : std::nullopt;
}

}  // namespace atelier::image
