#include "text/constraint/shape.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "text/constraint/formats.h"
#include "text/constraint/regex.h"
#include "text/utf8.h"

namespace atelier::text::constraint {

using base::Json;

namespace {

constexpr std::size_t most_shapes = 512;

const std::vector<std::pair<std::string, unsigned>> type_names = {
    {"null", null_type},     {"boolean", boolean_type}, {"integer", integer_type}, {"number", number_types},
    {"string", string_type}, {"array", array_type},     {"object", object_type}};

template <typename T>
void append(std::vector<T>& all, std::vector<T> more) {
  std::move(more.begin(), more.end(), std::back_inserter(all));
}

}  // namespace

std::vector<Shape> ShapeReader::read(const Conjunction& schemas) {
  const std::vector<Schema> outside = std::exchange(open_, {});  // a part may well hold what it is a part of
  Shapes shapes(1);
  for (const Schema schema : schemas) shapes = apply(schema, std::move(shapes));
  open_ = outside;
  return shapes;
}

void ShapeReader::limit(Schema schema, const char* keyword, const Shapes& shapes) const {
  if (shapes.size() > most_shapes)
    document_.fail(schema, keyword, fmt::format("leads to more than {} combinations of alternatives", most_shapes));
}

ShapeReader::Shapes ShapeReader::apply(Schema schema, Shapes in) {
  document_.check(schema);
  if (schema->is_boolean()) return schema->get<bool>() ? in : Shapes();
  if (std::ranges::find(open_, schema) != open_.end()) document_.fail(schema, "$ref", "leads back to itself");
  open_.push_back(schema);
  for (Shape& shape : in) apply_facets(schema, shape);
  const auto all = [&](const Json& list) {
    for (const Json& part : list) in = apply(&part, std::move(in));
  };
  if (document_.find(schema, "$ref"))
    in = apply(document_.resolve(schema, document_.text(schema, "$ref")), std::move(in));
  if (document_.find(schema, "allOf")) all(document_.list(schema, "allOf"));
  if (document_.find(schema, "anyOf")) {
    Shapes out;
    for (const Json& part : document_.list(schema, "anyOf")) append(out, apply(&part, in));
    in = std::move(out);
    limit(schema, "anyOf", in);
  }
  if (document_.find(schema, "oneOf")) in = one_of(schema, in);
  if (const Json* part = document_.find(schema, "not")) in = negate(part, in);
  in = condition(schema, in);
  in = dependencies(schema, std::move(in));
  std::erase_if(in, [](const Shape& shape) { return shape.types == 0; });
  open_.pop_back();
  return in;
}

ShapeReader::Shapes ShapeReader::one_of(Schema schema, const Shapes& in) {
  const Json& list = document_.list(schema, "oneOf");
  std::vector<Shapes> alternatives;
  for (const Json& part : list) alternatives.push_back(apply(&part, in));
  bool clear = true;
  for (std::size_t i = 0; i < list.size() && clear; ++i)
    for (std::size_t j = 0; j < i && clear; ++j)
      for (const Shape& a : alternatives[i])
        for (const Shape& b : alternatives[j]) clear = clear && apart(a, b);
  Shapes out;
  if (clear) {
    for (Shapes& shapes : alternatives) append(out, std::move(shapes));
  } else {
    // What fits one of them and none of the others.
    try {
      for (std::size_t i = 0; i < list.size(); ++i) {
        Shapes only = std::move(alternatives[i]);
        for (std::size_t j = 0; j < list.size(); ++j)
          if (j != i) only = negate(&list[j], only);
        append(out, std::move(only));
        limit(schema, "oneOf", out);
      }
    } catch (const base::Error&) {
      document_.fail(schema, "oneOf",
                     "has alternatives of which a value may fit several, in a way that is not supported",
                     "anyOf allows that; or give them types, constants or required properties that differ");
    }
  }
  limit(schema, "oneOf", out);
  return out;
}

ShapeReader::Shapes ShapeReader::condition(Schema schema, const Shapes& in) {
  const Json* test = document_.find(schema, "if");
  const Json *yes = document_.find(schema, "then"), *no = document_.find(schema, "else");
  if (test == nullptr) {
    if (yes) document_.fail(schema, "then", "needs an \"if\"");
    if (no) document_.fail(schema, "else", "needs an \"if\"");
    return in;
  }
  Shapes holds = apply(test, in), fails = negate(test, in);
  if (yes) holds = apply(yes, std::move(holds));
  if (no) fails = apply(no, std::move(fails));
  append(holds, std::move(fails));
  limit(schema, "if", holds);
  return holds;
}

/// Either the property is not there, or what depends on it holds.
ShapeReader::Shapes ShapeReader::dependencies(Schema schema, Shapes in) {
  for (const char* keyword : {"dependentRequired", "dependentSchemas"}) {
    if (!document_.find(schema, keyword)) continue;
    for (const auto& [name, wanted] : document_.object(schema, keyword).items()) {
      Schema then = &wanted;
      if (wanted.is_array()) then = document_.add({{"required", wanted}}, schema);
      if (wanted.is_array() != (std::string_view(keyword) == "dependentRequired"))
        document_.fail(schema, keyword, "holds something of the wrong type");
      const Schema without = document_.add({{"properties", {{name, false}}}}, schema);
      const Schema with = document_.add({{"required", Json::array({name})}}, schema);
      Shapes out = apply(without, in);
      append(out, apply(then, apply(with, in)));
      limit(schema, keyword, out);
      in = std::move(out);
    }
  }
  return in;
}

void ShapeReader::apply_facets(Schema schema, Shape& shape) {
  if (document_.find(schema, "type")) shape.types &= types_of(schema);
  apply_values(schema, shape);
  apply_numbers(schema, shape);
  apply_string(schema, shape);
  apply_array(schema, shape);
  apply_object(schema, shape);
}

unsigned ShapeReader::types_of(Schema schema) const {
  const Json& type = schema->at("type");
  const Json list = type.is_array() ? document_.list(schema, "type") : Json::array({type});
  unsigned types = 0;
  for (const Json& entry : list) {
    if (!entry.is_string()) document_.fail(schema, "type", "must be a type's name or a list of them");
    const auto found =
        std::ranges::find(type_names, entry.get<std::string>(), &std::pair<std::string, unsigned>::first);
    if (found == type_names.end()) {
      std::vector<std::string> names;
      for (const auto& [name, bits] : type_names) names.push_back(name);
      const std::string near = base::nearest(entry.get<std::string>(), names);
      document_.fail(schema, "type", fmt::format("is {}, which is no type", base::in_quotes(entry.get<std::string>())),
                     near.empty() ? "one of null, boolean, integer, number, string, array, object"
                                  : fmt::format("did you mean \"{}\"?", near));
    }
    types |= found->second;
  }
  return types;
}

void ShapeReader::apply_values(Schema schema, Shape& shape) {
  const auto keep = [&](const Json& values) {
    std::vector<Json> kept;
    for (const Json& value : values) {
      const auto same = [&](const Json& other) { return equal_values(value, other); };
      if (std::ranges::any_of(kept, same)) continue;
      if (!shape.values || std::ranges::any_of(*shape.values, same)) kept.push_back(value);
    }
    shape.values = std::move(kept);
  };
  if (document_.find(schema, "enum")) {
    if (!schema->at("enum").is_array()) document_.fail(schema, "enum", "must be a list");
    keep(schema->at("enum"));
  }
  if (const Json* value = document_.find(schema, "const")) keep(Json::array({*value}));
}

Decimal ShapeReader::number(Schema schema, const char* keyword) const {
  const Json& value = schema->at(keyword);
  if (!value.is_number()) document_.fail(schema, keyword, "must be a number");
  return Decimal::from(value);
}

void ShapeReader::apply_numbers(Schema schema, Shape& shape) {
  if (document_.find(schema, "minimum")) shape.numbers.raise_low(number(schema, "minimum"), false);
  if (document_.find(schema, "exclusiveMinimum")) shape.numbers.raise_low(number(schema, "exclusiveMinimum"), true);
  if (document_.find(schema, "maximum")) shape.numbers.lower_high(number(schema, "maximum"), false);
  if (document_.find(schema, "exclusiveMaximum")) shape.numbers.lower_high(number(schema, "exclusiveMaximum"), true);
  if (document_.find(schema, "multipleOf")) {
    const Decimal step = number(schema, "multipleOf");
    if (step.negative || step.zero()) document_.fail(schema, "multipleOf", "must be above 0");
    shape.numbers.multiples_of.push_back(step);
  }
}

Expr ShapeReader::pattern(Schema at, const char* keyword, const std::string& text) {
  try {
    return search_match(regular_, text, Spelling::json);
  } catch (const base::Error& error) {
    document_.fail(at, keyword, fmt::format("{}: {}", base::in_quotes(text), error.what()), error.hint());
  }
}

void ShapeReader::apply_string(Schema schema, Shape& shape) {
  shape.min_length = std::max(shape.min_length, document_.count(schema, "minLength", 0));
  shape.max_length = std::min(shape.max_length, document_.count(schema, "maxLength", Regular::unbounded));
  if (document_.find(schema, "pattern"))
    shape.contents.push_back(pattern(schema, "pattern", document_.text(schema, "pattern")));
  if (document_.find(schema, "format")) {
    const std::string& name = document_.text(schema, "format");
    const auto known = format_pattern(name);
    if (!known) {
      const auto names = known_formats();
      const std::string near = base::nearest(name, names);
      document_.fail(
          schema, "format", fmt::format("is {}, which is not supported", base::in_quotes(name)),
          near.empty() ? fmt::format("one of {}", fmt::join(names, ", ")) : fmt::format("did you mean \"{}\"?", near));
    }
    shape.contents.push_back(whole_match(regular_, *known, Spelling::json));
  }
}

void ShapeReader::apply_array(Schema schema, Shape& shape) {
  shape.min_items = std::max(shape.min_items, document_.count(schema, "minItems", 0));
  shape.max_items = std::min(shape.max_items, document_.count(schema, "maxItems", Regular::unbounded));
  if (const Json* unique = document_.find(schema, "uniqueItems")) {
    if (!unique->is_boolean()) document_.fail(schema, "uniqueItems", "must be true or false");
    shape.unique |= unique->get<bool>();
  }
  ArrayPart part;
  const Json *items = document_.find(schema, "items"), *additional = document_.find(schema, "additionalItems");
  const auto add_prefix = [&](const Json& list) {
    for (const Json& item : list) part.prefix.push_back(&item);
  };
  if (document_.find(schema, "prefixItems")) add_prefix(document_.list(schema, "prefixItems"));
  if (items != nullptr && items->is_array()) {  // as up to draft 2019-09
    if (document_.find(schema, "prefixItems")) document_.fail(schema, "items", "is a list beside prefixItems");
    add_prefix(*items);
    part.rest = additional;
  } else {
    part.rest = items;  // additionalItems then means nothing, by the old drafts too
    if (additional != nullptr && items == nullptr && !part.prefix.empty())
      document_.fail(schema, "additionalItems", "has no meaning beside prefixItems", "\"items\" says it");
  }
  for (const Schema item : part.prefix) document_.check(item);
  if (part.rest != nullptr) document_.check(part.rest);
  if (!part.prefix.empty() || part.rest != nullptr) shape.arrays.push_back(std::move(part));
}

void ShapeReader::apply_object(Schema schema, Shape& shape) {
  shape.min_properties = std::max(shape.min_properties, document_.count(schema, "minProperties", 0));
  shape.max_properties = std::min(shape.max_properties, document_.count(schema, "maxProperties", Regular::unbounded));
  if (document_.find(schema, "required")) {
    const Json& names = schema->at("required");
    if (!names.is_array()) document_.fail(schema, "required", "must be a list of names");
    for (const Json& name : names) {
      if (!name.is_string()) document_.fail(schema, "required", "must be a list of names");
      if (std::ranges::find(shape.required, name.get<std::string>()) == shape.required.end())
        shape.required.push_back(name.get<std::string>());
    }
  }
  if (const Json* names = document_.find(schema, "propertyNames")) shape.names.push_back(names);
  ObjectPart part;
  const auto collect = [&](const char* keyword, auto& into) {
    if (!document_.find(schema, keyword)) return;
    for (const auto& [name, value] : document_.object(schema, keyword).items()) {
      document_.check(&value);
      into.emplace_back(name, &value);
    }
  };
  collect("properties", part.properties);
  collect("patternProperties", part.patterns);
  for (const auto& [text, value] : part.patterns) pattern(schema, "patternProperties", text);
  part.additional = document_.find(schema, "additionalProperties");
  if (part.additional != nullptr) document_.check(part.additional);
  if (!part.properties.empty() || !part.patterns.empty() || part.additional != nullptr)
    shape.objects.push_back(std::move(part));
}

Conjunction ShapeReader::property(const Shape& shape, const std::string& name) {
  Conjunction all;
  const std::string quoted = compact(Json(name));
  for (const ObjectPart& part : shape.objects) {
    bool named = false;
    for (const auto& [other, schema] : part.properties)
      if (other == name) all.push_back(schema), named = true;
    for (const auto& [text, schema] : part.patterns)
      if (matches(regular_, search_match(regular_, text, Spelling::json), quoted.substr(1, quoted.size() - 2)))
        all.push_back(schema), named = true;
    if (!named && part.additional != nullptr) all.push_back(part.additional);
  }
  return all;
}

Conjunction ShapeReader::item(const Shape& shape, std::size_t index) {
  Conjunction all;
  for (const ArrayPart& part : shape.arrays) {
    if (index < part.prefix.size())
      all.push_back(part.prefix[index]);
    else if (part.rest != nullptr)
      all.push_back(part.rest);
  }
  return all;
}

Expr ShapeReader::content(const Shape& shape) {
  std::vector<Expr> parts = {any_content(regular_)};
  const Expr character = character_of(regular_, CodePoints::all(), Spelling::json);
  if (shape.max_length < shape.min_length) return Regular::nothing;
  if (shape.min_length > 0 || shape.max_length != Regular::unbounded)
    parts.push_back(regular_.repeat(character, shape.min_length, shape.max_length));
  parts.insert(parts.end(), shape.contents.begin(), shape.contents.end());
  for (const Json& value : shape.excluded)
    if (value.is_string()) {
      const std::string text = compact(value);
      parts.push_back(regular_.negate(regular_.literal(std::string_view(text).substr(1, text.size() - 2))));
    }
  return regular_.both(parts);
}

}  // namespace atelier::text::constraint
