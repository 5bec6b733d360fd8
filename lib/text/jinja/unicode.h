#pragma once

#include <cstdint>
#include <string>

namespace atelier::text::jinja {

// Python's ideas of characters (str.isspace and so on), for the tables that the C library has.
bool is_space(std::uint32_t code_point);
bool is_alpha(std::uint32_t code_point);
bool is_digit(std::uint32_t code_point);
bool is_upper(std::uint32_t code_point);
bool is_lower(std::uint32_t code_point);
/// Whether repr() shows it as it is.
bool is_printable(std::uint32_t code_point);
/// The characters that str.splitlines ends a line at.
bool is_line_end(std::uint32_t code_point);
/// May be several characters ("ß" -> "SS").
std::u32string to_upper(std::uint32_t code_point);
std::u32string to_lower(std::uint32_t code_point);
std::u32string to_title(std::uint32_t code_point);

}  // namespace atelier::text::jinja
