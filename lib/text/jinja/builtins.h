#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace atelier::text::jinja {

/// Arguments matched to the names of a built-in function's parameters; Failure where there are too many, or an
/// unknown name.
class Bound {
 public:
  Bound(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> parameters);

  /// The argument, or undefined where it was left out.
  const Value& operator[](std::size_t parameter) const { return values_[parameter]; }
  bool has(std::size_t parameter) const { return given_[parameter]; }
  bool flag(std::size_t parameter, bool fallback = false) const {
    return has(parameter) ? values_[parameter].truthy() : fallback;
  }
  std::int64_t integer(std::size_t parameter, std::int64_t fallback) const;
  /// Failure where it was left out.
  const Value& need(std::size_t parameter) const;
  const TrackedText& need_text(std::size_t parameter) const;

 private:
  std::string function_;
  std::vector<std::string_view> names_;
  std::vector<Value> values_;
  std::vector<bool> given_;
};

using Filter = Value (*)(const Value& value, const Arguments& arguments);
using Test = bool (*)(const Value& value, const Arguments& arguments);

/// Null where there is none of that name.
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);

// The filters lie in two files, by what they work on.
Filter find_text_filter(std::string_view name);
Filter find_sequence_filter(std::string_view name);

/// raise_exception, strftime_now, range, dict. (namespace belongs to the interpreter.)
std::vector<std::pair<std::string, Value>> global_functions();

}  // namespace atelier::text::jinja
