// Single values against shapes, and shapes against one another.
#include <algorithm>
#include <cmath>

#include "text/constraint/shape.h"
#include "text/utf8.h"

namespace atelier::text::constraint {

using base::Json;

namespace {

constexpr int deepest_comparison = 4;

unsigned type_of(const Json& value) {
  if (value.is_null()) return null_type;
  if (value.is_boolean()) return boolean_type;
  if (value.is_number_integer()) return integer_type;
  if (value.is_number()) {
    const double number = value.get<double>();
    return number == std::trunc(number) ? integer_type : fraction_type;
  }
  return value.is_string() ? string_type : value.is_array() ? array_type : object_type;
}

bool has(const Shape& shape, const std::string& name) {
  return std::ranges::find(shape.required, name) != shape.required.end();
}

}  // namespace

bool ShapeReader::admits(const Conjunction& schemas, const Json& value) {
  const auto shapes = read(schemas);
  return std::ranges::any_of(shapes, [&](const Shape& shape) { return admits(shape, value); });
}

bool ShapeReader::admits(const Shape& shape, const Json& value) {
  const unsigned type = type_of(value);
  if ((shape.types & type) == 0) return false;
  const auto same = [&](const Json& other) { return equal_values(value, other); };
  if (shape.values && std::ranges::none_of(*shape.values, same)) return false;
  if (std::ranges::any_of(shape.excluded, same)) return false;
  if ((type & number_types) != 0) return shape.numbers.has(Decimal::from(value));
  if (type == string_type) {
    const std::string text = compact(value);
    return matches(regular_, content(shape), std::string_view(text).substr(1, text.size() - 2));
  }
  if (type == array_type) return admits_array(shape, value);
  return type != object_type || admits_object(shape, value);
}

bool ShapeReader::admits_array(const Shape& shape, const Json& value) {
  if (value.size() < shape.min_items || value.size() > shape.max_items) return false;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (!admits(item(shape, i), value[i])) return false;
    for (std::size_t j = 0; shape.unique && j < i; ++j)
      if (equal_values(value[i], value[j])) return false;
  }
  return true;
}

bool ShapeReader::admits_object(const Shape& shape, const Json& value) {
  if (value.size() < shape.min_properties || value.size() > shape.max_properties) return false;
  if (!std::ranges::all_of(shape.required, [&](const std::string& name) { return value.contains(name); })) return false;
  return std::ranges::all_of(value.items(), [&](const auto& entry) {
    return admits(shape.names, Json(entry.key())) && admits(property(shape, entry.key()), entry.value());
  });
}

bool ShapeReader::any_apart(const Conjunction& a, const Conjunction& b) {
  const auto left = read(a), right = read(b);
  return std::ranges::all_of(
      left, [&](const Shape& x) { return std::ranges::all_of(right, [&](const Shape& y) { return apart(x, y); }); });
}

bool ShapeReader::objects_apart(const Shape& a, const Shape& b) {
  if (a.min_properties > b.max_properties || b.min_properties > a.max_properties) return true;
  std::vector<std::string> names = a.required;
  names.insert(names.end(), b.required.begin(), b.required.end());
  // A property that one of them must have, and whose values never suit both.
  return std::ranges::any_of(names, [&](const std::string& name) {
    const Conjunction x = property(a, name), y = property(b, name);
    if (has(a, name) && read(y).empty()) return true;
    if (has(b, name) && read(x).empty()) return true;
    return any_apart(x, y);
  });
}

bool ShapeReader::apart(const Shape& a, const Shape& b) {
  if ((a.types & b.types) == 0) return true;
  if (comparing_ >= deepest_comparison) return false;  // schemas may hold themselves
  ++comparing_;
  const bool result = types_apart(a, b);
  --comparing_;
  return result;
}

bool ShapeReader::types_apart(const Shape& a, const Shape& b) {
  const unsigned common = a.types & b.types;
  const auto none_fits = [this](const std::vector<Json>& values, const Shape& mine, const Shape& other) {
    return std::ranges::none_of(values, [&](const Json& v) { return admits(mine, v) && admits(other, v); });
  };
  if (a.values) return none_fits(*a.values, a, b);
  if (b.values) return none_fits(*b.values, b, a);
  if ((common & (null_type | boolean_type)) != 0) return false;
  if ((common & number_types) != 0 && !a.numbers.apart_from(b.numbers)) return false;
  if ((common & string_type) != 0 && regular_.distance(regular_.both({content(a), content(b)})) < Regular::unreachable)
    return false;
  if ((common & array_type) != 0) {
    const bool counts = a.min_items > b.max_items || b.min_items > a.max_items;
    const bool first = std::max(a.min_items, b.min_items) > 0 && any_apart(item(a, 0), item(b, 0));
    if (!counts && !first) return false;
  }
  return (common & object_type) == 0 || objects_apart(a, b);
}

}  // namespace atelier::text::constraint
