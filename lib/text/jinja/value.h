#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "text/jinja/tracked_text.h"

namespace atelier::text::jinja {

class Value;

/// What a name, key or attribute that does not exist evaluates to; prints as nothing, fails when it is used further.
struct Undefined {
  std::string what;  ///< for the message: "'x' is undefined"
};
struct None {};

/// Lists, tuples, and what filters such as `map` return: a generator can be gone through once, has no length and no
/// elements by number, and counts as true even when nothing is in it.
struct List {
  enum class Kind : std::uint8_t { list, tuple, generator };
  std::vector<Value> items;
  Kind kind = Kind::list;
  std::size_t depth = 1;  ///< of nested containers
  bool spent = false;     ///< a generator that has been gone through
};

/// Keeps the order of insertion.
class Dict {
 public:
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(Value key, Value value);
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  std::size_t size() const { return entries_.size(); }
  std::size_t depth() const { return depth_; }

 private:
  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_map<std::string, std::size_t> index_;
  std::size_t depth_ = 1;
};

/// The arguments of a call, evaluated.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

/// Macros, global functions, bound methods.
struct Callable {
  std::string name;
  std::function<Value(const Arguments&)> call;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
  Value* find(std::string_view name);
};

/// The `loop` variable: attributes are computed when they are asked for.
struct LoopObject {
  std::function<Value(std::string_view attribute)> attribute;
};

class Value {
 public:
  using Data = std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const TrackedText>,
                            std::shared_ptr<List>, std::shared_ptr<const Dict>, std::shared_ptr<const Callable>,
                            std::shared_ptr<Namespace>, std::shared_ptr<const LoopObject>>;

  Value() : data_(Undefined{}) {}
  static Value undefined(std::string what) { return Value(Data(Undefined{std::move(what)}), true); }
  static Value none(bool trusted = true) { return Value(Data(None{}), trusted); }
  static Value boolean(bool value, bool trusted = true) { return Value(Data(value), trusted); }
  static Value integer(std::int64_t value, bool trusted = true) { return Value(Data(value), trusted); }
  static Value real(double value, bool trusted = true) { return Value(Data(value), trusted); }
  static Value text(TrackedText value) {
    return Value(Data(std::make_shared<const TrackedText>(std::move(value))), true);
  }
  static Value text(std::string_view value, bool trusted) { return text(TrackedText(value, trusted)); }
  /// Charges the budget; Failure where containers nest too deeply.
  static Value list(std::vector<Value> items, List::Kind kind = List::Kind::list);
  static Value dict(Dict value);
  static Value callable(std::string name, std::function<Value(const Arguments&)> call);
  static Value space(std::shared_ptr<Namespace> value) { return Value(Data(std::move(value)), true); }
  static Value loop(std::shared_ptr<const LoopObject> value) { return Value(Data(std::move(value)), true); }
  /// From messages and tools: everything in it is `trusted` or not.
  static Value from_json(const base::Json& json, bool trusted);

  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(data_);
  }
  bool is_undefined() const { return is<Undefined>(); }
  bool is_none() const { return is<None>(); }
  bool is_text() const { return is<std::shared_ptr<const TrackedText>>(); }
  bool is_list() const { return is<std::shared_ptr<List>>(); }
  bool is_dict() const { return is<std::shared_ptr<const Dict>>(); }
  bool is_boolean() const { return is<bool>(); }
  bool is_integer() const { return is<std::int64_t>(); }
  bool is_real() const { return is<double>(); }
  /// Booleans count as numbers, as in Python.
  bool is_number() const { return is_boolean() || is_integer() || is_real(); }

  const Undefined& as_undefined() const { return std::get<Undefined>(data_); }
  const TrackedText& as_text() const { return *std::get<std::shared_ptr<const TrackedText>>(data_); }
  List& as_list() const { return *std::get<std::shared_ptr<List>>(data_); }
  const Dict& as_dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  const Callable* as_callable() const;
  Namespace* as_namespace() const;
  const LoopObject* as_loop() const;
  bool as_boolean() const { return std::get<bool>(data_); }
  /// Of a boolean or an integer.
  std::int64_t as_integer() const { return is_boolean() ? as_boolean() : std::get<std::int64_t>(data_); }
  /// Of any number.
  double as_real() const { return is_real() ? std::get<double>(data_) : static_cast<double>(as_integer()); }

  bool truthy() const;
  /// Python's name of the type, for messages.
  std::string type_name() const;
  /// Whether a scalar was computed from trusted values alone.
  bool trusted() const { return trusted_; }
  Value with_trust(bool trusted) const { return Value(data_, trusted); }
  std::size_t container_depth() const;
  /// The same object, not only an equal one.
  bool same_as(const Value& other) const;

 private:
  Value(Data data, bool trusted) : data_(std::move(data)), trusted_(trusted) {}

  Data data_;
  bool trusted_ = true;
};

/// Python's ==. Never fails.
bool equal(const Value& a, const Value& b);
/// Python's <; Failure where the types have no order.
bool less(const Value& a, const Value& b);
/// Python's `in`.
bool contains(const Value& container, const Value& item);
/// The elements to go through in a loop: of a list, the characters of a text, the keys of a dict; none of something
/// undefined. A generator is spent by it. Failure for anything else.
std::vector<Value> iterate(const Value& value);
/// Python's len(); Failure where there is none.
std::int64_t length(const Value& value);
/// A number that is used as a count or an index.
std::int64_t to_index(const Value& value, std::string_view what);

}  // namespace atelier::text::jinja
