#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "text/constraint/regular.h"
#include "text/constraint/vocabulary.h"

namespace atelier::text::constraint {

/// Which tokens a lexeme takes from one of its states, whatever stands around it: computed once for each state.
struct LexemeMask {
  struct Group {
    std::uint32_t cost = 0;           ///< tokens that the lexeme needs behind these
    std::vector<std::uint64_t> bits;  ///< where they are many
    std::vector<TokenId> ids;         ///< where they are few
  };
  std::vector<Group> groups;         ///< of tokens that end inside the lexeme or with it, cheapest first
  std::vector<std::uint32_t> exits;  ///< nodes of the trie at which the lexeme may end and longer pieces go on
  std::size_t memory = 0;
};

/// Regular expressions against a vocabulary.
class Lexemes {
 public:
  Lexemes(Regular& regular, std::shared_ptr<const Vocabulary> vocabulary)
      : regular_(regular), vocabulary_(std::move(vocabulary)) {}

  Regular& regular() { return regular_; }
  const Vocabulary& vocabulary() const { return *vocabulary_; }

  /// Tokens that are enough to finish the lexeme: the fewest that spell one of its shortest texts, as long as that is at most
  /// 256 bytes, else one a byte. From a state of cost c > 0 a token leads to one of cost c - 1, provided that the vocabulary
  /// has every byte. Regular::unreachable where there is no text.
  std::uint32_t cost(Expr e);
  /// `with_exits` false where nothing can follow the lexeme. Valid until the next call.
  const LexemeMask& mask(Expr e, bool with_exits);

 private:
  LexemeMask compute(Expr e, std::uint32_t offset, bool with_exits);

  Regular& regular_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::unordered_map<Expr, std::uint32_t> costs_;
  std::unordered_map<std::uint64_t, LexemeMask> masks_;
  std::size_t memory_ = 0;
};

}  // namespace atelier::text::constraint
