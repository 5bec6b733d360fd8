#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace atelier::text::constraint {

/// Follows a JSON text byte by byte and knows the last key of every open object and the last item of every open array.
class JsonCursor {
 public:
  /// `text`: all so far, of which the last byte is new.
  void feed(std::string_view text);
  /// Of the `level`-th open object or array, counted from 1: the last key with its quotes, or the last scalar item.
  std::string captured(std::string_view text, std::size_t level) const;

 private:
  struct Level {
    bool object = false;
    bool expecting = true;  ///< a key or an item comes next
    std::size_t begin = 0, end = 0;
  };
  std::vector<Level> levels_;
  bool in_string_ = false, escaped_ = false;
};

}  // namespace atelier::text::constraint
