#include "text/jinja/unicode.h"

#include <locale.h>
#include <clocale>
#include <cwctype>

#include <algorithm>
#include <array>

namespace atelier::text::jinja {
namespace {

/// The C library's Unicode tables, whatever the user's locale is.
locale_t unicode_locale() {
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  return locale;
}

bool in_class(int (*test)(wint_t, locale_t), std::uint32_t c) {
  return unicode_locale() && test(static_cast<wint_t>(c), unicode_locale()) != 0;
}

/// Characters whose upper case is more than one character.
struct Expansion {
  char32_t character;
  const char32_t* upper;
  const char32_t* title;
};
constexpr std::array<Expansion, 10> kExpansions{{{0xDF, U"SS", U"Ss"},
                                                 {0x149, U"\u02BCN", U"\u02BCN"},
                                                 {0x1F0, U"J\u030C", U"J\u030C"},
                                                 {0xFB00, U"FF", U"Ff"},
                                                 {0xFB01, U"FI", U"Fi"},
                                                 {0xFB02, U"FL", U"Fl"},
                                                 {0xFB03, U"FFI", U"Ffi"},
                                                 {0xFB04, U"FFL", U"Ffl"},
                                                 {0xFB05, U"ST", U"St"},
                                                 {0xFB06, U"ST", U"St"}}};

const Expansion* expansion(std::uint32_t c) {
  const auto found =
      std::find_if(kExpansions.begin(), kExpansions.end(), [c](const Expansion& e) { return e.character == c; });
  return found == kExpansions.end() ? nullptr : &*found;
}

std::u32string one(std::uint32_t c) { return std::u32string(1, static_cast<char32_t>(c)); }

}  // namespace

bool is_space(std::uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_alpha(std::uint32_t c) {
  if (c < 0x80) return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
  return in_class(iswalpha_l, c) && !is_digit(c);
}

bool is_digit(std::uint32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  // The decimal digits of the scripts that are still written.
  for (const std::uint32_t zero : {0x660u, 0x6F0u, 0x966u, 0x9E6u, 0xA66u, 0xAE6u, 0xB66u, 0xBE6u, 0xC66u, 0xCE6u,
                                   0xD66u, 0xE50u, 0xED0u, 0xF20u, 0x1040u, 0x17E0u, 0x1810u, 0xFF10u}) {
    if (c >= zero && c < zero + 10) return true;
  }
  return c == 0xB2 || c == 0xB3 || c == 0xB9;
}

bool is_upper(std::uint32_t c) { return in_class(iswupper_l, c); }
bool is_lower(std::uint32_t c) { return in_class(iswlower_l, c); }

bool is_printable(std::uint32_t c) {
  if (c < 0x7F) return c >= 0x20;
  if (c == 0xAD || is_space(c) || (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) ||
      (c >= 0x2060 && c <= 0x206F) || (c >= 0xE000 && c <= 0xF8FF) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFB) ||
      c >= 0xE0000 || c == 0x061C || c == 0x180E || (c >= 0x600 && c <= 0x605)) {
    return false;
  }
  return in_class(iswprint_l, c);
}

bool is_line_end(std::uint32_t c) {
  return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

std::u32string to_upper(std::uint32_t c) {
  if (c < 0x80) return one(c >= 'a' && c <= 'z' ? c - 32 : c);
  if (const Expansion* e = expansion(c)) return e->upper;
  return one(unicode_locale() ? towupper_l(static_cast<wint_t>(c), unicode_locale()) : c);
}

std::u32string to_lower(std::uint32_t c) {
  if (c < 0x80) return one(c >= 'A' && c <= 'Z' ? c + 32 : c);
  if (c == 0x130) return U"i\u0307";
  return one(unicode_locale() ? towlower_l(static_cast<wint_t>(c), unicode_locale()) : c);
}

std::u32string to_title(std::uint32_t c) {
  if (const Expansion* e = expansion(c)) return e->title;
  return to_upper(c);
}

}  // namespace atelier::text::jinja
