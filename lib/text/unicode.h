#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace atelier::text {

// Characters as Hugging Face's tokenizers library knows them (unicode_tables.inc says which script asked it), so that a
// tokenizer built on it gives the same tokens.

bool is_letter(std::uint32_t code_point);  ///< \p{L}
bool is_number(std::uint32_t code_point);  ///< \p{N}
bool is_space(std::uint32_t code_point);   ///< \s

/// Canonical composition (NFC) and decomposition (NFD), Unicode Standard Annex 15.
std::u32string to_nfc(std::u32string_view text);
std::u32string to_nfd(std::u32string_view text);
/// Character by character, so without the rule for a sigma at the end of a word.
std::u32string to_lower(std::u32string_view text);

/// Invalid UTF-8 becomes U+FFFD.
std::u32string to_utf32(std::string_view text);
std::string to_utf8(std::u32string_view text);

}  // namespace atelier::text
