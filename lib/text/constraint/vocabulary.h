#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace atelier::text::constraint {

/// The pieces of a vocabulary as a trie over the bytes that they add to a text. Control tokens, and ids that add nothing,
/// are not in it, so that no constraint ever allows them. Nodes lie in depth-first order: a subtree is a range. Immutable.
class Vocabulary {
 public:
  /// `rows`: logits of a model, which may be more or fewer than the tokenizer has pieces.
  static std::shared_ptr<const Vocabulary> from(const Tokenizer& tokenizer, TokenId rows);
  /// Piece `i` has the id i; an empty one is a control token.
  static std::shared_ptr<const Vocabulary> from_pieces(const std::vector<std::string>& pieces,
                                                       bool adds_dummy_prefix = false);

  struct Node {
    std::uint32_t end = 0;          ///< behind the last node of the subtree
    std::uint32_t first_token = 0;  ///< in tokens(); those of node i end where those of i + 1 begin
    std::uint16_t depth = 0;        ///< bytes from the root
    std::uint8_t byte = 0;
  };
  static constexpr std::uint32_t root = 0;

  const std::vector<Node>& nodes() const { return nodes_; }
  /// The ids that are spelled by the path to a node (several pieces can be the same bytes).
  std::span<const TokenId> tokens_at(std::uint32_t node) const {
    return {tokens_.data() + nodes_[node].first_token, tokens_.data() + nodes_[node + 1].first_token};
  }
  std::string_view bytes(TokenId id) const { return pieces_[static_cast<std::size_t>(id)]; }
  /// Rows of the logits, and 64-bit words of a mask over them.
  std::size_t size() const { return pieces_.size(); }
  std::size_t words() const { return (pieces_.size() + 63) / 64; }
  std::uint32_t longest() const { return longest_; }  ///< bytes of the longest piece
  /// Whether decoding takes a first blank away (Tokenizer::adds_dummy_prefix).
  bool adds_dummy_prefix() const { return adds_dummy_prefix_; }
  /// The fewest pieces that spell a text; empty where none do, or the text is.
  std::vector<TokenId> segment(std::string_view text) const;

 private:
  explicit Vocabulary(std::vector<std::string> pieces, bool adds_dummy_prefix);

  std::vector<std::string> pieces_;
  std::vector<Node> nodes_;  ///< with one more at the end
  std::vector<TokenId> tokens_;
  std::uint32_t longest_ = 0;
  bool adds_dummy_prefix_ = false;
};

}  // namespace atelier::text::constraint
