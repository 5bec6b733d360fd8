#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "text/constraint/characters.h"

namespace atelier::text::constraint {

/// A parsed regular expression.
struct RegexNode {
  enum class Kind : std::uint8_t { set, sequence, alternatives, repeat, text_start, text_end };
  Kind kind = Kind::sequence;
  CodePoints set;                                 ///< set
  std::vector<std::unique_ptr<RegexNode>> parts;  ///< sequence, alternatives; repeat: one
  std::uint32_t low = 0, high = 0;                ///< repeat; Regular::unbounded: no end
  bool anchored = false;                          ///< holds a text_start or text_end
};

/// Error(data) saying what is wrong and where.
std::unique_ptr<RegexNode> parse_regex(std::string_view pattern);

/// Members and non-members of a class that ECMAScript and Python agree on. Elsewhere they are each other's complement.
struct CharacterClass {
  CodePoints in, out;
};
CharacterClass class_of(const CodePoints& set);
/// d, w, s.
CharacterClass shorthand_class(char letter);
/// \p{...}: Any, ASCII, L, Lu, Ll, N, Nd, P (their most used parts); Error(data) for others.
CharacterClass property_class(std::string_view name);

}  // namespace atelier::text::constraint
