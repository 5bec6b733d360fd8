#include "text/constraint/schema_compiler.h"

#include <algorithm>
#include <bit>
#include <map>

#include <fmt/format.h>

#include "base/error.h"
#include "text/constraint/regex.h"
#include "text/constraint/shape.h"

namespace atelier::text::constraint {
namespace {

using base::Json;

constexpr std::size_t most_nodes = 20000;
constexpr std::size_t most_patterns = 4;         // of one object's keys: every combination is a class of its own
constexpr std::uint32_t most_properties = 4096;  // of one object, where their number is bounded
constexpr std::uint64_t most_texts = 1u << 20;

class Compiler {
 public:
  Compiler(Grammar& grammar, const Json& schema, std::string_view what)
      : g_(grammar), r_(grammar.regular), document_(schema, what), reader_(document_, grammar.regular) {}

  NodeId compile() { return value({document_.root()}); }

 private:
  /// The values that fit all of the schemas. Schemas that hold themselves lead to the node that is already there.
  NodeId value(const Conjunction& schemas) {
    // Addresses differ from run to run, so they may not decide the order of properties.
    Conjunction key = schemas;
    std::ranges::sort(key);
    key.erase(std::unique(key.begin(), key.end()), key.end());
    const auto [known, fresh] = known_.try_emplace(key, 0);
    if (!fresh) return known->second;
    if (schemas.empty()) return known->second = any().value;
    const NodeId node = g_.add({.kind = GrammarNode::Kind::alternatives});
    known->second = node;
    if (g_.nodes.size() > most_nodes) fail(schemas, "$ref", "makes the schema too complex");
    std::vector<Expr> scalars;
    std::vector<NodeId> parts;
    bool comparable = true;
    for (const Shape& shape : reader_.read(schemas)) {
      if (!shape.values) comparable = comparable && (shape.types & fraction_type) == 0;
      scalars.push_back(scalar(shape, schemas));
      if (!shape.values && (shape.types & object_type) != 0) parts.push_back(object(shape, schemas));
      if (!shape.values && (shape.types & array_type) != 0) parts.push_back(array(shape, schemas));
    }
    const Expr all = r_.alt(scalars);
    if (all != Regular::nothing) parts.insert(parts.begin(), g_.add_lexeme(all, comparable));
    if (parts.size() == 1 && all != Regular::nothing) {
      g_.nodes[node] = g_.nodes[parts[0]];
    } else {
      g_.nodes[node].parts = std::move(parts);
    }
    return node;
  }

  bool has(const Conjunction& schemas, const char* keyword) const {
    return std::ranges::any_of(schemas, [&](Schema s) { return document_.find(s, keyword) != nullptr; });
  }

  /// At the schema that has the keyword, where that is one of these themselves.
  [[noreturn]] void fail(const Conjunction& at, const char* keyword, const std::string& message,
                         const std::string& hint = {}) const {
    const auto place = std::ranges::find_if(at, [&](Schema s) { return document_.find(s, keyword) != nullptr; });
    document_.fail(place == at.end() ? document_.root() : *place, keyword, message, hint);
  }

  const AnyJson& any() {
    if (!any_) any_ = add_any(g_);
    return *any_;
  }

  Expr scalar(const Shape& shape, const Conjunction& at) {
    std::vector<Expr> parts;
    if (shape.values) {
      for (const Json& v : *shape.values)
        if (reader_.admits(shape, v)) parts.push_back(r_.literal(compact(v)));
      return r_.alt(parts);
    }
    const auto word = [&](const char* text) {
      const Json v = base::parse_json(text, "");
      const auto same = [&](const Json& other) { return equal_values(v, other); };
      if (std::ranges::none_of(shape.excluded, same)) parts.push_back(r_.literal(text));
    };
    if ((shape.types & null_type) != 0) word("null");
    if ((shape.types & boolean_type) != 0) {
      word("true");
      word("false");
    }
    if ((shape.types & number_types) != 0) parts.push_back(numbers(shape, at));
    if ((shape.types & string_type) != 0) {
      const Expr quote = r_.literal("\"");
      parts.push_back(r_.seq({quote, string(shape, at), quote}));
    }
    return r_.alt(parts);
  }

  Expr numbers(const Shape& shape, const Conjunction& at) {
    if ((shape.types & integer_type) == 0) fail(at, "type", "asks for numbers that are no integers");
    NumberRange range = shape.numbers;
    range.whole = (shape.types & fraction_type) == 0;
    std::vector<Expr> parts = {numbers_in(r_, range)};
    for (const Json& v : shape.excluded) {
      if (!v.is_number()) continue;
      if (!range.whole) fail(at, "not", "cannot take single values out of the numbers, only out of the integers");
      if (const Decimal d = Decimal::from(v); d.is_whole())
        parts.push_back(r_.negate(r_.literal((d.negative ? "-" : "") + d.whole)));
    }
    return r_.both(parts);
  }

  Expr string(const Shape& shape, const Conjunction& at) {
    const Expr content = reader_.content(shape);
    try {
      r_.distance(content);
    } catch (const base::Error& error) {
      fail(at,
           has(at, "pattern")  ? "pattern"
           : has(at, "format") ? "format"
                               : "maxLength",
           fmt::format("is {}", error.what()), "pattern, format and length together multiply");
    }
    return content;
  }

  void refuse_excluded(const Shape& shape, const Conjunction& at, bool of_objects) {
    for (const Json& v : shape.excluded)
      if (of_objects ? v.is_object() : v.is_array()) fail(at, "not", "cannot take single objects or arrays out");
  }

  NodeId object(const Shape& shape, const Conjunction& at) {
    refuse_excluded(shape, at, true);
    ObjectRule rule;
    rule.least = shape.min_properties;
    rule.most = shape.max_properties;
    if (rule.least > most_properties) fail(at, "minProperties", fmt::format("is above {}", most_properties));
    std::vector<std::string> names;
    const auto add_name = [&](const std::string& name) {
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    };
    for (const ObjectPart& part : shape.objects)
      for (const auto& [name, schema] : part.properties) add_name(name);
    for (const std::string& name : shape.required) add_name(name);
    std::vector<Expr> declared;
    for (const std::string& name : names) {
      const std::string quoted = compact(Json(name));
      const Expr key = r_.seq({r_.literal(quoted), r_.literal(":"), g_.punctuation.after_colon});
      declared.push_back(r_.literal(std::string_view(quoted).substr(1, quoted.size() - 2)));
      ObjectRule::Property property{name, r_.seq(g_.punctuation.gap, key), r_.seq(g_.punctuation.comma, key)};
      property.required = std::ranges::find(shape.required, name) != shape.required.end();
      if (reader_.admits(shape.names, Json(name))) property.value = value(reader_.property(shape, name));
      rule.properties.push_back(std::move(property));
    }
    rule.declared = r_.alt(declared);
    add_others(shape, at, names.size(), rule);
    // With nothing undeclared there are never more than the declared ones.
    if (rule.others.empty() && rule.most >= names.size()) rule.most = Regular::unbounded;
    if (rule.most != Regular::unbounded) rule.most = std::min(rule.most, std::max(most_properties, rule.least));
    return g_.add_object(std::move(rule));
  }

  /// Keys that are not declared, apart by which of the patterns they match.
  void add_others(const Shape& shape, const Conjunction& at, std::size_t declared, ObjectRule& rule) {
    std::vector<std::string> patterns;
    for (const ObjectPart& part : shape.objects)
      for (const auto& [text, schema] : part.patterns)
        if (std::ranges::find(patterns, text) == patterns.end()) patterns.push_back(text);
    if (patterns.size() > most_patterns)
      fail(at, "patternProperties", fmt::format("has more than {} patterns", most_patterns));
    std::vector<Expr> keys;
    for (const Shape& names : reader_.read(shape.names))
      if ((names.types & string_type) != 0) keys.push_back(key_content(names, at));
    for (unsigned chosen = 0; chosen < 1u << patterns.size(); ++chosen) {
      std::vector<Expr> parts = {r_.alt(keys)};
      for (std::size_t i = 0; i < patterns.size(); ++i) {
        const Expr match = search_match(r_, patterns[i], Spelling::json);
        parts.push_back((chosen >> i & 1) != 0 ? match : r_.negate(match));
      }
      ObjectRule::Others others{r_.both(parts)};
      const Conjunction schemas = schemas_of(shape, patterns, chosen);
      const auto is_false = [](Schema s) { return s->is_boolean() && !s->get<bool>(); };
      if (std::ranges::any_of(schemas, is_false) || r_.distance(others.key) >= Regular::unreachable) continue;
      others.value = value(schemas);
      if (rule.least > 0) others.key_bytes = r_.bytes_of(others.key, declared + rule.least);
      rule.others.push_back(others);
    }
  }

  Expr key_content(const Shape& names, const Conjunction& at) {
    if (!names.values) return string(names, at);
    std::vector<Expr> parts;
    for (const Json& v : *names.values)
      if (v.is_string() && reader_.admits(names, v)) {
        const std::string text = compact(v);
        parts.push_back(r_.literal(std::string_view(text).substr(1, text.size() - 2)));
      }
    return r_.alt(parts);
  }

  static Conjunction schemas_of(const Shape& shape, const std::vector<std::string>& patterns, unsigned chosen) {
    Conjunction all;
    for (const ObjectPart& part : shape.objects) {
      bool named = false;
      for (const auto& [text, schema] : part.patterns) {
        const auto index = std::ranges::find(patterns, text) - patterns.begin();
        if ((chosen >> index & 1) == 0) continue;
        all.push_back(schema);
        named = true;
      }
      if (!named && part.additional != nullptr) all.push_back(part.additional);
    }
    return all;
  }

  NodeId array(const Shape& shape, const Conjunction& at) {
    refuse_excluded(shape, at, false);
    ArrayRule rule;
    rule.least = shape.min_items;
    rule.most = shape.max_items;
    if (rule.least > most_texts) fail(at, "minItems", fmt::format("is above {}", most_texts));
    std::size_t prefix = 0;
    for (const ArrayPart& part : shape.arrays) prefix = std::max(prefix, part.prefix.size());
    for (std::size_t i = 0; i < std::min<std::size_t>(prefix, rule.most); ++i)
      rule.prefix.push_back(value(reader_.item(shape, i)));
    if (rule.most > prefix) rule.items = value(reader_.item(shape, prefix));
    if (shape.unique && rule.most > 1) make_unique(rule, at);
    return g_.add_array(std::move(rule));
  }

  /// Items that must differ are told apart by their texts.
  void make_unique(ArrayRule& rule, const Conjunction& at) {
    const GrammarNode& items = g_.nodes[rule.items];
    if (!rule.prefix.empty()) fail(at, "uniqueItems", "is not supported beside prefixItems");
    if (items.kind != GrammarNode::Kind::lexeme || !items.comparable)
      fail(at, "uniqueItems", "is supported for strings, integers, booleans, null and constants only",
           "numbers that may be fractions, objects and arrays have several texts for one value");
    rule.unique = true;
    rule.item = items.lexeme;
    const Regular::Extent extent = r_.extent(rule.item, most_texts);
    if (extent.finite) {
      rule.item_cost = extent.count < rule.least ? Regular::unreachable : extent.longest;
    } else if (rule.least > 0) {
      rule.item_cost = r_.bytes_of(rule.item, rule.least);
      if (rule.item_cost >= Regular::unreachable) fail(at, "minItems", "is too large beside uniqueItems");
    }
  }

  Grammar& g_;
  Regular& r_;
  SchemaDocument document_;
  ShapeReader reader_;
  std::map<Conjunction, NodeId> known_;
  std::optional<AnyJson> any_;
};

}  // namespace

void compile_schema(Grammar& grammar, const Json& schema, std::string_view what) {
  any_content(grammar.regular);  // first: unions of strings end there
  grammar.start = Compiler(grammar, schema, what).compile();
}

}  // namespace atelier::text::constraint
