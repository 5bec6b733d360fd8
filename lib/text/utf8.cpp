#include "text/utf8.h"

namespace atelier::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// Unicode's table 3-7: how many bytes follow a lead byte, and what the first of them may be.
struct Lead {
  std::size_t following = 0;
  unsigned char low = 0x80, high = 0xBF;
};

Lead lead_of(unsigned char byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {1};
  if (byte == 0xE0) return {2, 0xA0, 0xBF};
  if (byte == 0xED) return {2, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {2};
  if (byte == 0xF0) return {3, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {3};
  if (byte == 0xF4) return {3, 0x80, 0x8F};
  return {};
}

template <typename OnInvalid>
std::string replace(std::string_view text, OnInvalid invalid_length) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = decode_utf8(text);
    const std::size_t length = step.valid ? step.length : invalid_length(step);
    out.append(step.valid ? text.substr(0, length) : kReplacement);
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace

Utf8Step decode_utf8(std::string_view text) {
  if (text.empty()) return {};
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return {1, true, false, first};
  const Lead lead = lead_of(first);
  if (lead.following == 0) return {1, false, false, 0xFFFD};
  std::uint32_t code_point = first & (0x3Fu >> lead.following);
  for (std::size_t i = 1; i <= lead.following; ++i) {
    if (i == text.size()) return {i, false, true, 0xFFFD};
    const auto byte = static_cast<unsigned char>(text[i]);
    const unsigned char low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) return {i, false, false, 0xFFFD};
    code_point = (code_point << 6) | (byte & 0x3Fu);
  }
  return {lead.following + 1, true, false, code_point};
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = decode_utf8(text);
    if (!step.valid) return false;
    text.remove_prefix(step.length);
  }
  return true;
}

std::string replace_invalid(std::string_view text) {
  return replace(text, [](const Utf8Step& step) { return step.length; });
}

std::string replace_invalid_bytes(std::string_view text) {
  return replace(text, [](const Utf8Step&) { return std::size_t{1}; });
}

std::size_t complete_prefix(std::string_view text) {
  // Only the last three bytes can belong to an unfinished character.
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const std::string_view tail = text.substr(text.size() - back);
    if ((static_cast<unsigned char>(tail[0]) & 0xC0) == 0x80) continue;
    const Utf8Step step = decode_utf8(tail);
    return step.truncated && step.length == back ? text.size() - back : text.size();
  }
  return text.size();
}

void append_utf8(std::string& text, std::uint32_t code_point) {
  if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) code_point = 0xFFFD;
  const auto put = [&text](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

}  // namespace atelier::text
