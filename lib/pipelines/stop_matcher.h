#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace atelier::pipelines {

/// Finds stop texts in a stream, across the borders of its pieces. Text that could be the beginning of a stop text is held
/// back until that is decided.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// Adds a piece; returns what may be shown now. After a match nothing more comes.
  std::string push(std::string_view piece);
  /// At the end of the stream: what was held back.
  std::string flush();

  bool matched() const { return matched_; }
  /// Bytes of the stream before the stop text, once matched.
  std::size_t cut() const { return shown_; }

 private:
  std::size_t held_prefix() const;

  std::vector<std::string> stops_;
  std::string pending_;
  std::size_t shown_ = 0;
  bool matched_ = false;
};

}  // namespace atelier::pipelines
