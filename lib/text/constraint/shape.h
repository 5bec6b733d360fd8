#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "text/constraint/json_lexemes.h"
#include "text/constraint/numbers.h"
#include "text/constraint/schema_document.h"

namespace atelier::text::constraint {

/// JSON's types, as bits. Integers are apart from the numbers that are none.
enum Types : unsigned {
  null_type = 1,
  boolean_type = 2,
  integer_type = 4,
  fraction_type = 8,
  string_type = 16,
  array_type = 32,
  object_type = 64,
  number_types = integer_type | fraction_type,
  any_type = 127
};

/// Schemas that must all hold.
using Conjunction = std::vector<Schema>;

/// What one schema says of an object's properties: "additionalProperties" means those that it does not name itself.
struct ObjectPart {
  std::vector<std::pair<std::string, Schema>> properties, patterns;
  Schema additional = nullptr;
};
struct ArrayPart {
  std::vector<Schema> prefix;
  Schema rest = nullptr;
};

/// A conjunction of keywords without alternatives: a value fits where it is of one of the types and keeps to what is said
/// about its type.
struct Shape {
  unsigned types = any_type;
  std::optional<std::vector<base::Json>> values;  ///< one of these
  std::vector<base::Json> excluded;               ///< none of these
  NumberRange numbers;
  std::uint32_t min_length = 0, max_length = Regular::unbounded;  ///< code points
  std::vector<Expr> contents;                                     ///< of patterns and formats
  std::vector<ArrayPart> arrays;
  std::uint32_t min_items = 0, max_items = Regular::unbounded;
  bool unique = false;
  std::vector<ObjectPart> objects;
  std::vector<std::string> required;
  std::uint32_t min_properties = 0, max_properties = Regular::unbounded;
  Conjunction names;  ///< of keys
};

/// Turns schemas into alternatives of shapes, so that what "allOf", "$ref", "anyOf", "oneOf", "not", "if" say in their own places
/// is brought together. Error(data) naming keyword and path for what is malformed, unsupported, or would take too many
/// alternatives.
class ShapeReader {
 public:
  ShapeReader(SchemaDocument& document, Regular& regular) : document_(document), regular_(regular) {}

  std::vector<Shape> read(const Conjunction& schemas);
  /// Whether a value fits.
  bool admits(const Shape& shape, const base::Json& value);
  bool admits(const Conjunction& schemas, const base::Json& value);
  /// Whether no value fits both; false where that is not seen.
  bool apart(const Shape& a, const Shape& b);

  /// What must hold for a property, an item, by name or index.
  Conjunction property(const Shape& shape, const std::string& name);
  static Conjunction item(const Shape& shape, std::size_t index);
  /// The strings of a shape, as they stand between their quotes.
  Expr content(const Shape& shape);
  Expr pattern(Schema at, const char* keyword, const std::string& text);

 private:
  using Shapes = std::vector<Shape>;
  Shapes apply(Schema schema, Shapes in);
  Shapes negate(Schema schema, const Shapes& in);
  Shapes negate_keyword(Schema schema, const std::string& keyword, const Shapes& in);
  Shapes one_of(Schema schema, const Shapes& in);
  Shapes condition(Schema schema, const Shapes& in);
  Shapes dependencies(Schema schema, Shapes in);
  void apply_facets(Schema schema, Shape& shape);
  void apply_values(Schema schema, Shape& shape);
  void apply_numbers(Schema schema, Shape& shape);
  void apply_string(Schema schema, Shape& shape);
  void apply_array(Schema schema, Shape& shape);
  void apply_object(Schema schema, Shape& shape);
  unsigned types_of(Schema schema) const;
  Decimal number(Schema schema, const char* keyword) const;
  bool types_apart(const Shape& a, const Shape& b);
  bool objects_apart(const Shape& a, const Shape& b);
  bool any_apart(const Conjunction& a, const Conjunction& b);
  bool admits_object(const Shape& shape, const base::Json& value);
  bool admits_array(const Shape& shape, const base::Json& value);
  void limit(Schema schema, const char* keyword, const Shapes& shapes) const;

  SchemaDocument& document_;
  Regular& regular_;
  std::vector<Schema> open_;  ///< schemas that are being applied: one inside itself has no end
  int comparing_ = 0;         ///< comparisons inside one another
};

}  // namespace atelier::text::constraint
