#include "text/constraint/json_lexemes.h"

#include <algorithm>

#include "text/constraint/numbers.h"

namespace atelier::text::constraint {

using base::Json;

Expr any_content(Regular& regular) { return regular.all_of(character_of(regular, CodePoints::all(), Spelling::json)); }

bool matches(Regular& regular, Expr e, std::string_view text) {
  for (const char c : text) e = regular.next(e, static_cast<unsigned char>(c));
  return regular.nullable(e);
}

std::string compact(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

bool equal_values(const Json& a, const Json& b) {
  if (a.is_object() && b.is_object()) {
    if (a.size() != b.size()) return false;
    return std::ranges::all_of(a.items(), [&](const auto& item) {
      const auto found = b.find(item.key());
      return found != b.end() && equal_values(item.value(), *found);
    });
  }
  if (a.is_array() && b.is_array())
    return std::ranges::equal(a, b, [](const Json& x, const Json& y) { return equal_values(x, y); });
  return a == b;
}

AnyJson add_any(Grammar& g) {
  Regular& r = g.regular;
  const Expr quote = r.literal("\""), content = any_content(r);
  const Expr scalar = r.alt(
      {r.seq({quote, content, quote}), numbers_in(r, {}), r.literal("true"), r.literal("false"), r.literal("null")});
  const NodeId value = g.add({.kind = GrammarNode::Kind::alternatives});
  ObjectRule object;
  object.others.push_back({content, value});
  ArrayRule array;
  array.items = value;
  AnyJson any{value, g.add_object(std::move(object))};
  const NodeId leaf = g.add_lexeme(scalar, /*comparable=*/false), list = g.add_array(std::move(array));
  g.nodes[value].parts = {leaf, any.object, list};
  return any;
}

}  // namespace atelier::text::constraint
