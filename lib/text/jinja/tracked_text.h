#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace atelier::text::jinja {

/// A string that knows of each byte whether it came from the template (trusted) or from messages, tools and other
/// variables (untrusted). Every growth is charged to the Budget.
class TrackedText {
 public:
  TrackedText() = default;
  TrackedText(std::string_view bytes, bool trusted) { append(bytes, trusted); }

  const std::string& bytes() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  bool trusted(std::size_t byte) const { return runs_[run_at(byte)].trusted; }
  bool all_trusted() const;

  void append(std::string_view bytes, bool trusted);
  void append(const TrackedText& other) { append(other, 0, other.size()); }
  void append(const TrackedText& other, std::size_t from, std::size_t count);
  void append_code_point(std::uint32_t code_point, bool trusted);
  TrackedText substr(std::size_t from, std::size_t count = std::string::npos) const;

  /// Maximal stretches of equal trust.
  std::vector<Segment> segments() const;

 private:
  struct Run {
    std::size_t end = 0;  ///< one past its last byte
    bool trusted = false;
  };
  std::size_t run_at(std::size_t byte) const;

  std::string bytes_;
  std::vector<Run> runs_;  ///< in order, touching; neighbours differ in trust
};

/// A character of a text: where it starts, how long it is, and which it is.
struct Character {
  std::size_t offset = 0, length = 0;
  std::uint32_t code_point = 0;
};
std::vector<Character> characters(const TrackedText& text);
std::size_t character_count(std::string_view text);

// Python's str methods, on tracked text; positions and counts are in characters.
TrackedText slice(const TrackedText& text, const std::vector<std::size_t>& positions);
enum class Side { left, right, both };
/// `chars`: what to strip, or null for white space.
TrackedText strip(const TrackedText& text, const std::string* chars, Side side);
TrackedText replace(const TrackedText& text, std::string_view from, const TrackedText& to, std::int64_t count);
/// At every `separator`; `limit` < 0 means no limit.
std::vector<TrackedText> split(const TrackedText& text, std::string_view separator, std::int64_t limit,
                               bool from_right);
/// At runs of white space, as Python's split() without arguments.
std::vector<TrackedText> split_blanks(const TrackedText& text, std::int64_t limit, bool from_right);
std::vector<TrackedText> split_lines(const TrackedText& text, bool keep_ends);
TrackedText repeat(const TrackedText& text, std::int64_t count);

enum class Case { upper, lower, title_word, capitalize, swap };
/// Case mapping character by character; each result is as trusted as the character that it came from.
TrackedText change_case(const TrackedText& text, Case to);

}  // namespace atelier::text::jinja
