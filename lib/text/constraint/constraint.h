#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/constraint/vocabulary.h"
#include "text/tokenizer.h"

/// Constrained decoding: which tokens may come next, so that a text conforms to a JSON Schema or a regular expression.
///
/// A constraint is a grammar over bytes (JSON's nesting as a pushdown automaton, everything between as regular expressions
/// that are determinised as they are met), and a state is a set of its stacks. The tokens that a state allows are found by
/// walking the vocabulary's trie once for each lexical state; what they allow behind a lexeme's end depends on the stack
/// and is found by walking the few branches that reach it.
namespace atelier::text::constraint {

class Machine;

/// A compiled constraint with what it has learned about its states so far. Shared by all rows of a batch, by one thread.
class Constraint {
 public:
  /// The whole text matches `pattern` (ECMA-262 syntax without lookaround, back-references, \b, flags; `.`, `\d`, `\w`,
  /// `\s` mean what both ECMAScript and Python's re make of them). Error(data): malformed, unsupported, too complex,
  /// nothing matches. `what` names it in messages.
  static std::shared_ptr<Constraint> regex(std::shared_ptr<const Vocabulary> vocabulary, std::string_view pattern,
                                           std::string_view what = "--regex");
  /// Any JSON object.
  static std::shared_ptr<Constraint> json_object(std::shared_ptr<const Vocabulary> vocabulary);
  /// A JSON text that the schema accepts (2020-12, and what draft 7 says differently about `items`). Declared properties come in
  /// their order, others behind them, no key twice; a blank or an indented new line may stand between tokens. Error(data)
  /// naming keyword and path: unknown, unsupported or malformed keywords, a schema that nothing satisfies. No keyword is
  /// ever ignored; title, description, default, examples, $comment and their like ask for nothing.
  static std::shared_ptr<Constraint> json_schema(std::shared_ptr<const Vocabulary> vocabulary, const base::Json& schema,
                                                 std::string_view what = "--json-schema");
  ~Constraint();

  /// The fewest tokens that a conforming text needs, as far as is known: there is one of so many tokens.
  std::int64_t shortest() const { return shortest_; }
  /// True once the tables have grown so large that a new request does better to compile the constraint anew.
  bool grown() const;
  const Vocabulary& vocabulary() const { return *vocabulary_; }

 private:
  friend class ConstraintState;
  Constraint(std::shared_ptr<const Vocabulary> vocabulary, std::unique_ptr<Machine> machine);

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::unique_ptr<Machine> machine_;
  std::vector<TokenId> shortest_text_;  ///< where it takes fewer tokens than the machine's own way
  std::int64_t shortest_ = 0;
};

/// One text on its way.
class ConstraintState {
 public:
  /// The text may have `budget` tokens; the stop token is not one of them. Error(condition) where that is too few.
  ConstraintState(std::shared_ptr<Constraint> constraint, std::int64_t budget);
  ~ConstraintState();
  ConstraintState(const ConstraintState&) = delete;
  ConstraintState& operator=(const ConstraintState&) = delete;

  /// Bit i % 64 of word i / 64: token i may come next, and the text can still be finished within the budget. Valid until
  /// the next call on any state of this constraint. No bit is set where nothing may follow.
  std::span<const std::uint64_t> allowed();
  /// Whether the text conforms as it is.
  bool accepts() const;
  /// Whether it conforms and nothing may follow, other than for want of tokens.
  bool finished();
  /// Appends a token that allowed() has.
  ConstraintState& advance(TokenId id);
  const std::string& text() const { return text_; }

 private:
  struct Position;
  std::shared_ptr<Constraint> constraint_;
  std::unique_ptr<Position> position_;
  std::string text_;
  std::int64_t left_;
};

}  // namespace atelier::text::constraint
