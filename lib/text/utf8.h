#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace atelier::text {

/// Well-formed UTF-8 as Unicode defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);
/// Every maximal invalid part replaced by U+FFFD (Unicode 3.9, "U+FFFD Substitution of Maximal Subparts").
std::string replace_invalid(std::string_view text);
/// Every single invalid byte replaced by U+FFFD, which is what SentencePiece does.
std::string replace_invalid_bytes(std::string_view text);
/// Length of the longest prefix that does not end inside a (so far valid) character.
std::size_t complete_prefix(std::string_view text);

/// What stands at the start of a text.
struct Utf8Step {
  std::size_t length = 0;  ///< bytes of the character, or of the maximal invalid part; 0 only for an empty text
  bool valid = false;
  bool truncated = false;  ///< invalid only because the text ends here
  std::uint32_t code_point = 0xFFFD;
};
Utf8Step decode_utf8(std::string_view text);

/// Appends one code point; surrogates and values above U+10FFFF become U+FFFD.
void append_utf8(std::string& text, std::uint32_t code_point);

}  // namespace atelier::text
