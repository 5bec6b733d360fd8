#include "image/encodings.h"

#include <cstdint>

namespace atelier::image {
namespace {

constexpr char32_t kReplacement = 0xFFFD, kBroken = 0xFFFFFFFF;

void append_utf8(std::string& to, char32_t c) {
  const auto put = [&](char32_t byte) { to += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

// The character at `at`, which moves past it; kBroken (and one byte further) where there is none.
char32_t next_utf8(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(at++);
  if (first < 0x80) return first;
  const std::size_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
  if (first < 0xC2 || first > 0xF4 || text.size() - at < more) return kBroken;
  char32_t c = first & (0x3Fu >> more);
  for (std::size_t i = 0; i < more; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return kBroken;
    c = (c << 6) | (byte(at + i) & 0x3Fu);
  }
  const bool overlong = (more == 2 && c < 0x800) || (more == 3 && c < 0x10000);
  if (overlong || (c >= 0xD800 && c < 0xE000) || c > 0x10FFFF) return kBroken;
  at += more;
  return c;
}

}  // namespace

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    if (next_utf8(text, at) == kBroken) return false;
  }
  return true;
}

std::string latin1_to_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (const char c : text) append_utf8(result, static_cast<unsigned char>(c));
  return result;
}

std::optional<std::string> utf8_to_latin1(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_utf8(text, at);
    if (c > 0xFF) return std::nullopt;
    result += static_cast<char>(static_cast<unsigned char>(c));
  }
  return result;
}

std::string utf16_to_utf8(std::string_view bytes, bool big_endian) {
  std::string result;
  const std::size_t units = bytes.size() / 2;
  const auto unit = [&](std::size_t i) -> char32_t {
    const auto high = static_cast<unsigned char>(bytes[2 * i + (big_endian ? 0 : 1)]);
    const auto low = static_cast<unsigned char>(bytes[2 * i + (big_endian ? 1 : 0)]);
    return static_cast<char32_t>(high << 8 | low);
  };
  for (std::size_t i = 0; i < units; ++i) {
    char32_t c = unit(i);
    if (c >= 0xD800 && c < 0xE000) {
      const char32_t next = c < 0xDC00 && i + 1 < units ? unit(i + 1) : 0;
      const bool pair = next >= 0xDC00 && next < 0xE000;
      c = pair ? 0x10000 + ((c - 0xD800) << 10) + (next - 0xDC00) : kReplacement;
      if (pair) ++i;
    }
    append_utf8(result, c);
  }
  return result;
}

std::string utf8_to_utf16_big_endian(std::string_view text) {
  std::string result;
  const auto put = [&](char32_t unit) {
    result += static_cast<char>(static_cast<unsigned char>(unit >> 8));
    result += static_cast<char>(static_cast<unsigned char>(unit & 0xFF));
  };
  for (std::size_t at = 0; at < text.size();) {
    char32_t c = next_utf8(text, at);
    if (c == kBroken) c = kReplacement;
    if (c >= 0x10000) {
      put(0xD800 + ((c - 0x10000) >> 10));
      put(0xDC00 + ((c - 0x10000) & 0x3FF));
    } else {
      put(c);
    }
  }
  return result;
}

}  // namespace atelier::image
