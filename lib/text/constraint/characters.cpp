#include "text/constraint/characters.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include "text/utf8.h"

namespace atelier::text::constraint {
namespace {

constexpr std::uint32_t last_code_point = 0x10FFFF;

std::string utf8(std::uint32_t code_point) {
  std::string bytes;
  append_utf8(bytes, code_point);
  return bytes;
}

Expr byte_range(Regular& r, unsigned char first, unsigned char last) { return r.bytes(ByteSet::range(first, last)); }

/// All byte strings between two of equal length whose later bytes run from 80 to BF.
Expr between(Regular& r, const std::string& first, const std::string& last, std::size_t at = 0) {
  const auto low = static_cast<unsigned char>(first[at]), high = static_cast<unsigned char>(last[at]);
  if (at + 1 == first.size()) return byte_range(r, low, high);
  if (low == high) return r.seq(byte_range(r, low, low), between(r, first, last, at + 1));
  const auto tail = [&](char fill) { return std::string(first.size() - at - 1, fill); };
  const std::string head = first.substr(0, at + 1);
  const bool whole_low = first.substr(at + 1) == tail('\x80'), whole_high = last.substr(at + 1) == tail('\xBF');
  std::vector<Expr> parts;
  if (!whole_low) parts.push_back(r.seq(byte_range(r, low, low), between(r, first, head + tail('\xBF'), at + 1)));
  if (!whole_high) {
    const std::string begin = last.substr(0, at + 1) + tail('\x80');
    parts.push_back(r.seq(byte_range(r, high, high), between(r, begin, last, at + 1)));
  }
  const unsigned from = low + (whole_low ? 0u : 1u), to = high - (whole_high ? 0u : 1u);
  if (from <= to) {
    Expr rest = Regular::end;
    for (std::size_t i = at + 1; i < first.size(); ++i) rest = r.seq(byte_range(r, 0x80, 0xBF), rest);
    parts.push_back(r.seq(byte_range(r, static_cast<unsigned char>(from), static_cast<unsigned char>(to)), rest));
  }
  return r.alt(parts);
}

void add_utf8(Regular& r, CodePoints::Range range, std::vector<Expr>& parts) {
  constexpr CodePoints::Range lengths[] = {{0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xFFFF}, {0x10000, last_code_point}};
  for (const auto& [first, last] : lengths) {
    const std::uint32_t from = std::max(first, range.first), to = std::min(last, range.second);
    if (from <= to) parts.push_back(between(r, utf8(from), utf8(to)));
  }
}

/// How JSON spells what it does not let stand as it is; empty for the rest.
std::string json_escape(std::uint32_t code_point) {
  switch (code_point) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\b': return "\\b";
    case '\f': return "\\f";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: return code_point < 0x20 ? fmt::format("\\u{:04x}", code_point) : std::string();
  }
}

}  // namespace

CodePoints::CodePoints(std::initializer_list<Range> ranges) : ranges_(ranges) { normalise(); }

CodePoints CodePoints::all() { return {{0, 0xD7FF}, {0xE000, last_code_point}}; }

void CodePoints::normalise() {
  std::sort(ranges_.begin(), ranges_.end());
  std::vector<Range> merged;
  for (const Range& range : ranges_) {
    if (!merged.empty() && range.first <= merged.back().second + 1)
      merged.back().second = std::max(merged.back().second, range.second);
    else
      merged.push_back(range);
  }
  ranges_ = std::move(merged);
}

CodePoints CodePoints::united(const CodePoints& other) const {
  CodePoints result = *this;
  result.ranges_.insert(result.ranges_.end(), other.ranges_.begin(), other.ranges_.end());
  result.normalise();
  return result;
}

CodePoints CodePoints::inverted() const {
  CodePoints result;
  std::uint32_t next = 0;
  const auto add = [&](std::uint32_t first, std::uint32_t last) {  // around the surrogates
    if (first < 0xD800) result.ranges_.emplace_back(first, std::min(last, 0xD7FFu));
    if (last > 0xDFFF) result.ranges_.emplace_back(std::max(first, 0xE000u), last);
  };
  for (const auto& [first, last] : ranges_) {
    if (first > next) add(next, first - 1);
    next = last + 1;
  }
  if (next <= last_code_point) add(next, last_code_point);
  result.normalise();
  return result;
}

Expr character_of(Regular& regular, const CodePoints& set, Spelling spelling) {
  std::vector<Expr> parts;
  if (spelling == Spelling::plain) {
    for (const auto& range : set.ranges()) add_utf8(regular, range, parts);
    return regular.alt(parts);
  }
  const CodePoints escaped = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
  const CodePoints spelled_out = set.intersected(escaped), as_they_are = set.intersected(escaped.inverted());
  for (const auto& [first, last] : spelled_out.ranges())
    for (std::uint32_t c = first; c <= last; ++c) parts.push_back(regular.literal(json_escape(c)));
  for (const auto& range : as_they_are.ranges()) add_utf8(regular, range, parts);
  return regular.alt(parts);
}

}  // namespace atelier::text::constraint
