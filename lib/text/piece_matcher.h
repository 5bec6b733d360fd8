#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer.h"

namespace atelier::text {

/// Byte trie over the spellings of some pieces: the longest one that a text starts with.
class PieceMatcher {
 public:
  struct Match {
    bool operator==(const Match&) const = default;
    std::size_t length = 0;
    TokenId id = -1;
  };

  /// A spelling that is there already keeps its first id. Empty spellings are ignored.
  void add(std::string_view spelling, TokenId id);
  std::optional<Match> longest(std::string_view text) const;
  bool empty() const { return next_.empty(); }
  /// The greatest number of pieces of which each is a prefix of the next one.
  std::size_t deepest_nesting() const;

 private:
  static std::uint64_t key(std::uint32_t node, char byte) {
    return (static_cast<std::uint64_t>(node) << 8) | static_cast<unsigned char>(byte);
  }

  struct Node {
    TokenId id = -1;
    std::uint32_t parent = 0;
  };
  std::vector<Node> nodes_{1};
  std::unordered_map<std::uint64_t, std::uint32_t> next_;
  bool starts_[256] = {};  ///< most positions of a text are settled by this alone
};

}  // namespace atelier::text
