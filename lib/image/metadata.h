#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace atelier::image {

/// A text that travels with a picture. In PNG files each entry is a tEXt chunk, or an iTXt one where the text is not
/// Latin-1. In JPEG files the entry "parameters" is EXIF's UserComment (as A1111 writes it), any other a comment
/// segment "KEY: VALUE"; after a full one (65533 bytes) the next comment goes on with the same text.
struct TextEntry {
  std::string key;    ///< 1 to 79 bytes, printable Latin-1 without leading or trailing blanks
  std::string value;  ///< UTF-8
  bool operator==(const TextEntry&) const = default;
};
using Metadata = std::vector<TextEntry>;

inline constexpr std::string_view kParametersKey = "parameters";  ///< A1111's text: image/parameters.h
inline constexpr std::string_view kAtelierKey = "atelier";        ///< the whole manifest as JSON

/// The value of the first entry with this key, or null.
const std::string* find_text(const Metadata& text, std::string_view key);

}  // namespace atelier::image
