#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "text/constraint/shape.h"

namespace atelier::text::constraint {

using base::Json;

namespace {

/// The shapes again, of these types only.
std::vector<Shape> only(const std::vector<Shape>& in, unsigned types) {
  std::vector<Shape> out;
  for (const Shape& shape : in) {
    out.push_back(shape);
    out.back().types &= types;
    if (out.back().types == 0) out.pop_back();
  }
  return out;
}

void append(std::vector<Shape>& all, std::vector<Shape> more) {
  std::move(more.begin(), more.end(), std::back_inserter(all));
}

template <typename Change>
std::vector<Shape> changed(std::vector<Shape> shapes, Change change) {
  for (Shape& shape : shapes) change(shape);
  return shapes;
}

bool asks_nothing(const std::string& keyword) {
  static const std::vector<std::string> words = {"title",    "description", "default",     "examples",   "deprecated",
                                                 "readOnly", "writeOnly",   "$comment",    "$schema",    "$id",
                                                 "$anchor",  "$defs",       "definitions", "$vocabulary"};
  return std::ranges::find(words, keyword) != words.end();
}

}  // namespace

/// A value does not fit a schema where it fails one of its keywords.
ShapeReader::Shapes ShapeReader::negate(Schema schema, const Shapes& in) {
  document_.check(schema);
  if (schema->is_boolean()) return schema->get<bool>() ? Shapes() : in;
  if (std::ranges::find(open_, schema) != open_.end()) document_.fail(schema, "$ref", "leads back to itself");
  open_.push_back(schema);
  Shapes out;
  for (const auto& [keyword, value] : schema->items())
    if (!asks_nothing(keyword)) append(out, negate_keyword(schema, keyword, in));
  limit(schema, "not", out);
  open_.pop_back();
  return out;
}

ShapeReader::Shapes ShapeReader::negate_keyword(Schema schema, const std::string& keyword, const Shapes& in) {
  Shapes out;
  const auto unsupported = [&] {
    document_.fail(schema, keyword, "is not supported under \"not\", \"if\" or overlapping \"oneOf\"");
  };
  if (keyword == "type") {
    const unsigned rest = any_type & ~types_of(schema);
    for (Shape& shape : out = only(in, rest))
      if ((shape.types & number_types) == fraction_type) unsupported();  // "a number that is no integer"
    return out;
  }
  if (keyword == "enum" || keyword == "const") {
    const Json values = keyword == "enum" ? schema->at("enum") : Json::array({schema->at("const")});
    if (!values.is_array()) document_.fail(schema, keyword, "must be a list");
    return changed(in, [&](Shape& s) { s.excluded.insert(s.excluded.end(), values.begin(), values.end()); });
  }
  if (keyword == "$ref") return negate(document_.resolve(schema, document_.text(schema, "$ref")), in);
  if (keyword == "not") return apply(&schema->at("not"), in);
  if (keyword == "allOf") {
    for (const Json& part : document_.list(schema, "allOf")) append(out, negate(&part, in));
    return out;
  }
  if (keyword == "anyOf") {
    out = in;
    for (const Json& part : document_.list(schema, "anyOf")) out = negate(&part, out);
    return out;
  }
  if (keyword == "required") {
    for (const Json& name : document_.list(schema, "required")) {
      if (!name.is_string()) document_.fail(schema, "required", "must be a list of names");
      append(out,
             apply(document_.add({{"properties", {{name.get<std::string>(), false}}}}, schema), only(in, object_type)));
    }
    return out;
  }
  if (keyword == "properties") {
    for (const auto& [name, value] : document_.object(schema, "properties").items()) {
      const Json not_fitting = {{"not", value}};
      const Schema wanted =
          document_.add({{"properties", {{name, not_fitting}}}, {"required", Json::array({name})}}, schema);
      append(out, apply(wanted, only(in, object_type)));
    }
    return out;
  }
  if (keyword == "minimum")
    return changed(only(in, number_types), [&](Shape& s) { s.numbers.lower_high(number(schema, "minimum"), true); });
  if (keyword == "exclusiveMinimum")
    return changed(only(in, number_types),
                   [&](Shape& s) { s.numbers.lower_high(number(schema, "exclusiveMinimum"), false); });
  if (keyword == "maximum")
    return changed(only(in, number_types), [&](Shape& s) { s.numbers.raise_low(number(schema, "maximum"), true); });
  if (keyword == "exclusiveMaximum")
    return changed(only(in, number_types),
                   [&](Shape& s) { s.numbers.raise_low(number(schema, "exclusiveMaximum"), false); });
  // A count of at least n is missed by at most n - 1, and the other way round.
  struct Counted {
    const char *least, *most;
    unsigned type;
    std::uint32_t Shape::*low;
    std::uint32_t Shape::*high;
  };
  constexpr std::array counted = {
      Counted{"minLength", "maxLength", string_type, &Shape::min_length, &Shape::max_length},
      Counted{"minItems", "maxItems", array_type, &Shape::min_items, &Shape::max_items},
      Counted{"minProperties", "maxProperties", object_type, &Shape::min_properties, &Shape::max_properties}};
  for (const Counted& c : counted) {
    if (keyword == c.least) {
      const std::uint32_t least = document_.count(schema, c.least, 0);
      if (least == 0) return {};
      return changed(only(in, c.type), [&](Shape& s) { s.*c.high = std::min(s.*c.high, least - 1); });
    }
    if (keyword == c.most) {
      const std::uint32_t most = document_.count(schema, c.most, 0);
      return changed(only(in, c.type), [&](Shape& s) { s.*c.low = std::max(s.*c.low, most + 1); });
    }
  }
  if (keyword == "pattern") {
    const Expr other = regular_.negate(pattern(schema, "pattern", document_.text(schema, "pattern")));
    return changed(only(in, string_type), [&](Shape& s) { s.contents.push_back(other); });
  }
  unsupported();
  return {};
}

}  // namespace atelier::text::constraint
