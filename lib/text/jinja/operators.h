#pragma once

#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace atelier::text::jinja {

// Python's operators on values; Failure where the types do not fit, or an integer overflows 64 bits.
Value add(const Value& a, const Value& b);
Value subtract(const Value& a, const Value& b);
Value multiply(const Value& a, const Value& b);
Value divide(const Value& a, const Value& b);
Value floor_divide(const Value& a, const Value& b);
/// Of numbers, or printf-style formatting where `a` is a text.
Value modulo(const Value& a, const Value& b);
Value power(const Value& a, const Value& b);
Value negate(const Value& a);

/// Python's `format % values`: d i u s r x X o f F e E g G c and %%.
TrackedText format_percent(const TrackedText& format, const Value& values);

/// `object.name`: a method, else an attribute, else a key; Undefined where there is none.
Value attribute(const Value& object, const std::string& name);
/// `object[key]`: an element, else a key, else an attribute.
Value item(const Value& object, const Value& key);
/// `object[start:stop:step]`; undefined bounds are left out.
Value slice_of(const Value& object, const Value& start, const Value& stop, const Value& step);

/// A method of a text, list or dict, bound to it; undefined where there is none.
Value method(const Value& object, const std::string& name);

}  // namespace atelier::text::jinja
