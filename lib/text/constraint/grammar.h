#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "text/constraint/lexemes.h"
#include "text/constraint/regular.h"

namespace atelier::text::constraint {

using NodeId = std::uint32_t;

/// A JSON object: its declared properties in order, then others.
struct ObjectRule {
  struct Property {
    std::string name;
    Expr first = Regular::nothing;  ///< lexeme of the key behind "{": white space, key, colon
    Expr later = Regular::nothing;  ///< behind another property: a comma before it
    NodeId value = 0;
    bool required = false;
  };
  /// Keys that are not declared, by what their values must be.
  struct Others {
    Expr key = Regular::nothing;  ///< what stands between the quotes
    NodeId value = 0;
    std::uint32_t key_bytes = Regular::unreachable;  ///< of some unused key, while the object lacks its least
  };
  std::vector<Property> properties;
  std::vector<Others> others;
  Expr declared = Regular::nothing;  ///< declared names, as they stand between the quotes
  std::uint32_t least = 0, most = Regular::unbounded;

  /// Tokens to the end of the object, by the next property (the last row: all are passed) and the properties so far, which
  /// are counted up to `counted`.
  std::vector<std::vector<std::uint32_t>> costs;
  std::uint32_t counted = 1;
};

/// A JSON array.
struct ArrayRule {
  std::vector<NodeId> prefix;
  NodeId items = 0;  ///< of what follows the prefix; node 0 (nothing) where nothing may
  std::uint32_t least = 0, most = Regular::unbounded;
  bool unique = false;
  Expr item = Regular::nothing;  ///< unique: the items' lexeme
  std::uint32_t item_cost = 0;   ///< unique: enough for any item that is still left, while `least` is not reached
  /// Tokens to the end of the array, by the items so far, counted up to `costs.size() - 1`.
  std::vector<std::uint32_t> costs;

  NodeId item_at(std::uint32_t index) const { return index < prefix.size() ? prefix[index] : items; }
};

/// What a text consists of.
struct GrammarNode {
  enum class Kind : std::uint8_t { nothing, lexeme, alternatives, sequence, object, array };
  Kind kind = Kind::nothing;
  Expr lexeme = Regular::nothing;
  std::vector<NodeId> parts = {};  ///< alternatives, sequence
  std::uint32_t rule = 0;          ///< object, array: which
  bool comparable = true;          ///< lexeme: equal values are equal texts (not so with fractions)
  std::uint32_t cost = Regular::unreachable;
};

/// Lexemes of JSON's punctuation. Between tokens nothing, one blank, or a new line with up to 24 blanks may stand; behind a
/// colon at most one blank.
struct Punctuation {
  explicit Punctuation(Regular& regular);
  Expr gap, after_colon, open_object, close_object, open_array, close_array, comma;
};

/// A context-free grammar whose terminals are lexemes.
struct Grammar {
  explicit Grammar(std::shared_ptr<const Vocabulary> vocabulary);

  Regular regular;
  Lexemes lexemes{regular, nullptr};
  Punctuation punctuation{regular};
  std::vector<GrammarNode> nodes;  ///< node 0: nothing
  std::vector<ObjectRule> objects;
  std::vector<ArrayRule> arrays;
  NodeId start = 0;
  bool captures = false;  ///< keys or items must not come twice

  NodeId add(GrammarNode node);
  NodeId add_lexeme(Expr lexeme, bool comparable = true);
  NodeId add_object(ObjectRule rule);
  NodeId add_array(ArrayRule rule);
  /// Fills in the costs of all nodes; alternatives without any text are dropped.
  void find_costs();
  std::uint32_t cost(NodeId node) const { return nodes[node].cost; }

 private:
  std::uint32_t cost_of(const GrammarNode& node);
  std::uint32_t object_cost(ObjectRule& rule);
  std::uint32_t array_cost(ArrayRule& rule);
};

/// The lexeme of a further key that is none of `used` (keys as they stand in the text, with their quotes).
Expr other_key(Grammar& grammar, const ObjectRule& rule, const ObjectRule::Others& others,
               const std::vector<std::string>& used, bool first);
/// The lexeme of a further item of a unique array.
Expr unused_item(Grammar& grammar, const ArrayRule& rule, const std::vector<std::string>& used);

std::uint32_t add_costs(std::uint32_t a, std::uint32_t b);

}  // namespace atelier::text::constraint
