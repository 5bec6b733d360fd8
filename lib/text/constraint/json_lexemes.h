#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "text/constraint/characters.h"
#include "text/constraint/grammar.h"

namespace atelier::text::constraint {

/// What stands between the quotes of any string.
Expr any_content(Regular& regular);
/// Whether a whole text belongs to an expression.
bool matches(Regular& regular, Expr e, std::string_view text);
/// The text of a value, without white space.
std::string compact(const base::Json& value);
/// As JSON sees it: 1 and 1.0 are equal, the order of keys does not count.
bool equal_values(const base::Json& a, const base::Json& b);
/// Any value, and any object.
struct AnyJson {
  NodeId value = 0, object = 0;
};
AnyJson add_any(Grammar& grammar);

}  // namespace atelier::text::constraint
