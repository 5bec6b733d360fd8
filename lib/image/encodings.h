#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace atelier::image {

/// Within the room: the character sets of PNG and EXIF texts.

bool is_utf8(std::string_view text);
std::string latin1_to_utf8(std::string_view text);
/// Nothing where a character is beyond Latin-1 (or `text` is not UTF-8).
std::optional<std::string> utf8_to_latin1(std::string_view text);
/// Lone surrogates become U+FFFD; an odd last byte is dropped.
std::string utf16_to_utf8(std::string_view bytes, bool big_endian);
/// What is not UTF-8 becomes U+FFFD.
std::string utf8_to_utf16_big_endian(std::string_view text);

}  // namespace atelier::image
