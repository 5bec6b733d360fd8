#include "text/jinja/tracked_text.h"

#include <algorithm>

#include "text/jinja/budget.h"
#include "text/jinja/unicode.h"
#include "text/utf8.h"

namespace atelier::text::jinja {
namespace {

/// A count as Python takes it: negative means as often as there is something to do.
std::uint64_t times(std::int64_t count) { return count < 0 ? UINT64_MAX : static_cast<std::uint64_t>(count); }

}  // namespace

bool TrackedText::all_trusted() const { return runs_.empty() || (runs_.size() == 1 && runs_[0].trusted); }

std::size_t TrackedText::run_at(std::size_t byte) const {
  const auto found =
      std::upper_bound(runs_.begin(), runs_.end(), byte, [](std::size_t b, const Run& run) { return b < run.end; });
  return static_cast<std::size_t>(found - runs_.begin());
}

void TrackedText::append(std::string_view bytes, bool trusted) {
  if (bytes.empty()) return;
  Budget::bytes(bytes.size());
  bytes_.append(bytes);
  if (!runs_.empty() && runs_.back().trusted == trusted) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), trusted});
  }
}

void TrackedText::append(const TrackedText& other, std::size_t from, std::size_t count) {
  const std::size_t end = from + std::min(count, other.size() - from);
  for (std::size_t run = other.run_at(from); from < end; ++run) {
    const std::size_t stop = std::min(end, other.runs_[run].end);
    append(std::string_view(other.bytes_).substr(from, stop - from), other.runs_[run].trusted);
    from = stop;
  }
}

void TrackedText::append_code_point(std::uint32_t code_point, bool trusted) {
  std::string bytes;
  append_utf8(bytes, code_point);
  append(bytes, trusted);
}

TrackedText TrackedText::substr(std::size_t from, std::size_t count) const {
  TrackedText part;
  part.append(*this, from, count);
  return part;
}

std::vector<Segment> TrackedText::segments() const {
  std::vector<Segment> out;
  std::size_t begin = 0;
  for (const Run& run : runs_) {
    out.push_back({bytes_.substr(begin, run.end - begin), run.trusted});
    begin = run.end;
  }
  return out;
}

std::vector<Character> characters(const TrackedText& text) {
  std::vector<Character> out;
  Budget::step(1 + text.size() / 16);
  std::string_view rest = text.bytes();
  for (std::size_t offset = 0; !rest.empty();) {
    const Utf8Step step = decode_utf8(rest);
    out.push_back({offset, step.length, step.code_point});
    offset += step.length;
    rest.remove_prefix(step.length);
  }
  return out;
}

std::size_t character_count(std::string_view text) {
  Budget::step(1 + text.size() / 64);
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

TrackedText slice(const TrackedText& text, const std::vector<std::size_t>& positions) {
  const auto all = characters(text);
  TrackedText out;
  for (const std::size_t position : positions) out.append(text, all[position].offset, all[position].length);
  return out;
}

TrackedText strip(const TrackedText& text, const std::string* chars, Side side) {
  std::u32string set;
  if (chars) {
    for (const Character& c : characters(TrackedText(*chars, true))) set.push_back(static_cast<char32_t>(c.code_point));
  }
  const auto drop = [&](std::string_view character) {
    const std::uint32_t c = decode_utf8(character).code_point;
    return chars ? set.find(static_cast<char32_t>(c)) != std::u32string::npos : is_space(c);
  };
  const std::string_view all = text.bytes();
  std::size_t begin = 0, end = all.size();
  while (side != Side::right && begin < end) {
    const std::size_t length = decode_utf8(all.substr(begin, end - begin)).length;
    if (!drop(all.substr(begin, length))) break;
    begin += length;
  }
  while (side != Side::left && begin < end) {
    std::size_t start = end - 1;
    while (start > begin && (static_cast<unsigned char>(all[start]) & 0xC0) == 0x80) --start;
    if (!drop(all.substr(start, end - start))) break;
    end = start;
  }
  return text.substr(begin, end - begin);
}

TrackedText replace(const TrackedText& text, std::string_view from, const TrackedText& to, std::int64_t count) {
  TrackedText out;
  std::size_t at = 0;
  std::uint64_t left = times(count);
  if (from.empty()) {  // Python puts the replacement before every character and behind the last one
    for (const Character& c : characters(text)) {
      if (left > 0) out.append(to), --left;
      out.append(text, c.offset, c.length);
    }
    if (left > 0) out.append(to);
    return out;
  }
  for (; left > 0; --left) {
    Budget::step();
    const std::size_t found = text.bytes().find(from, at);
    if (found == std::string::npos) break;
    out.append(text, at, found - at);
    out.append(to);
    at = found + from.size();
  }
  out.append(text, at, std::string::npos);
  return out;
}

std::vector<TrackedText> split(const TrackedText& text, std::string_view separator, std::int64_t limit,
                               bool from_right) {
  if (separator.empty()) throw Failure("empty separator");
  std::vector<TrackedText> parts;
  const std::string_view all = text.bytes();
  std::uint64_t left = times(limit);
  if (!from_right) {
    std::size_t at = 0;
    for (; left > 0; --left) {
      Budget::step(8);
      const std::size_t found = all.find(separator, at);
      if (found == std::string_view::npos) break;
      parts.push_back(text.substr(at, found - at));
      at = found + separator.size();
    }
    parts.push_back(text.substr(at));
    return parts;
  }
  std::size_t end = all.size();
  for (; left > 0; --left) {
    Budget::step(8);
    const std::size_t found =
        end < separator.size() ? std::string_view::npos : all.rfind(separator, end - separator.size());
    if (found == std::string_view::npos) break;
    parts.push_back(text.substr(found + separator.size(), end - found - separator.size()));
    end = found;
  }
  parts.push_back(text.substr(0, end));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<TrackedText> split_blanks(const TrackedText& text, std::int64_t limit, bool from_right) {
  // Words as [first, last] character ranges; what lies beyond the limit stays one part.
  const auto all = characters(text);
  struct Word {
    std::size_t first, last;
  };
  std::vector<Word> words;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (is_space(all[i].code_point)) continue;
    if (i == 0 || is_space(all[i - 1].code_point)) words.push_back({i, i});
    words.back().last = i;
  }
  Budget::step(8 * words.size());
  if (limit >= 0 && words.size() > static_cast<std::size_t>(limit)) {
    const auto keep = static_cast<std::size_t>(limit);
    if (from_right) {
      const std::size_t joined = words.size() - keep;
      words[joined - 1].first = 0;
      words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(joined - 1));
    } else {
      words.resize(keep + 1);
      words.back().last = all.size() - 1;
    }
  }
  std::vector<TrackedText> parts;
  for (const Word& word : words) {
    const std::size_t begin = all[word.first].offset, end = all[word.last].offset + all[word.last].length;
    parts.push_back(text.substr(begin, end - begin));
  }
  return parts;
}

std::vector<TrackedText> split_lines(const TrackedText& text, bool keep_ends) {
  std::vector<TrackedText> lines;
  const auto all = characters(text);
  std::size_t begin = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!is_line_end(all[i].code_point)) continue;
    std::size_t last = i;
    if (all[i].code_point == '\r' && i + 1 < all.size() && all[i + 1].code_point == '\n') last = ++i;
    const std::size_t first =
        all[last].code_point == '\n' && last > 0 && all[last - 1].code_point == '\r' ? last - 1 : last;
    const std::size_t after = all[last].offset + all[last].length;
    lines.push_back(text.substr(begin, (keep_ends ? after : all[first].offset) - begin));
    begin = after;
    Budget::step(8);
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

TrackedText repeat(const TrackedText& text, std::int64_t count) {
  TrackedText out;
  if (text.empty()) return out;
  for (; count > 0; --count) {
    Budget::step();
    out.append(text);
  }
  return out;
}

TrackedText change_case(const TrackedText& text, Case to) {
  TrackedText out;
  bool first = true;
  for (const Character& c : characters(text)) {
    std::u32string mapped;
    switch (to) {
      case Case::upper: mapped = to_upper(c.code_point); break;
      case Case::lower: mapped = to_lower(c.code_point); break;
      case Case::swap: mapped = is_upper(c.code_point) ? to_lower(c.code_point) : to_upper(c.code_point); break;
      case Case::title_word: mapped = first ? to_title(c.code_point) : to_lower(c.code_point); break;
      case Case::capitalize: mapped = first ? to_title(c.code_point) : to_lower(c.code_point); break;
    }
    // str.title starts a word after everything that is not cased.
    first = to == Case::title_word && !is_upper(c.code_point) && !is_lower(c.code_point);
    for (const char32_t m : mapped) out.append_code_point(m, text.trusted(c.offset));
  }
  return out;
}

}  // namespace atelier::text::jinja
