#include "text/constraint/json_cursor.h"

namespace atelier::text::constraint {

void JsonCursor::feed(std::string_view text) {
  const char c = text.back();
  const std::size_t at = text.size() - 1;
  if (in_string_) {
    if (escaped_)
      escaped_ = false;
    else if (c == '\\')
      escaped_ = true;
    else if (c == '"')
      in_string_ = false;
    if (!levels_.empty() && levels_.back().expecting) {
      levels_.back().end = at + 1;
      if (!in_string_) levels_.back().expecting = false;
    }
    return;
  }
  if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
    if (!levels_.empty() && !levels_.back().object && levels_.back().end > levels_.back().begin)
      levels_.back().expecting = false;
    return;
  }
  if (c == '}' || c == ']') {
    if (!levels_.empty()) levels_.pop_back();
    return;
  }
  if (levels_.empty()) {
    if (c == '{' || c == '[') levels_.push_back({c == '{'});
    in_string_ = c == '"';
    return;
  }
  Level& level = levels_.back();
  if (c == ',') {
    level.expecting = true;
    level.begin = level.end = at + 1;
    return;
  }
  if (level.expecting) {
    if (level.end == level.begin) level.begin = at;
    level.end = at + 1;
  }
  if (c == '{' || c == '[') {
    level.expecting = false;
    levels_.push_back({c == '{', true, at + 1, at + 1});
  }
  in_string_ = c == '"';
}

std::string JsonCursor::captured(std::string_view text, std::size_t level) const {
  if (level == 0 || level > levels_.size()) return {};
  const Level& found = levels_[level - 1];
  return std::string(text.substr(found.begin, found.end - found.begin));
}

}  // namespace atelier::text::constraint
