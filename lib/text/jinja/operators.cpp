#include "text/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/checked.h"
#include "text/jinja/budget.h"
#include "text/jinja/print.h"

namespace atelier::text::jinja {
namespace {

[[noreturn]] void mismatch(std::string_view op, const Value& a, const Value& b) {
  for (const Value* value : {&a, &b}) {
    if (value->is_undefined()) throw Failure(value->as_undefined().what);
  }
  throw Failure(fmt::format("unsupported operands for {}: '{}' and '{}'", op, a.type_name(), b.type_name()));
}

bool both_numbers(const Value& a, const Value& b) { return a.is_number() && b.is_number(); }
bool both_integers(const Value& a, const Value& b) { return both_numbers(a, b) && !a.is_real() && !b.is_real(); }
bool both_trusted(const Value& a, const Value& b) { return a.trusted() && b.trusted(); }

Value integer_result(std::optional<std::int64_t> result, const Value& a, const Value& b) {
  if (!result) throw Failure("an integer is too large");
  return Value::integer(*result, both_trusted(a, b));
}

Value real_result(double result, const Value& a, const Value& b) { return Value::real(result, both_trusted(a, b)); }

std::optional<std::int64_t> checked_subtract(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  return __builtin_sub_overflow(a, b, &result) ? std::nullopt : std::optional(result);
}

std::optional<std::int64_t> integer_power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  for (; exponent > 0; --exponent) {
    const auto next = base::checked_mul(result, base);
    if (!next) return std::nullopt;
    result = *next;
  }
  return result;
}

Value repeat_list(const List& list, std::int64_t count) {
  std::vector<Value> items;
  for (; count > 0 && !list.items.empty(); --count) {
    Budget::step(1 + 8 * list.items.size());
    items.insert(items.end(), list.items.begin(), list.items.end());
  }
  return Value::list(std::move(items), list.kind);
}

bool is_sequence(const Value& value) { return value.is_list() && value.as_list().kind != List::Kind::generator; }

/// Where a[start:stop:step] goes, as Python computes it.
std::vector<std::size_t> slice_positions(std::int64_t size, const Value& start, const Value& stop, const Value& step) {
  const auto given = [](const Value& value) { return !value.is_undefined() && !value.is_none(); };
  const std::int64_t stride = given(step) ? to_index(step, "a slice's step") : 1;
  if (stride == 0) throw Failure("a slice's step cannot be zero");
  const std::int64_t low = stride > 0 ? 0 : -1, high = stride > 0 ? size : size - 1;
  const auto bound = [&](const Value& value, std::int64_t fallback) {
    if (!given(value)) return fallback;
    std::int64_t index = to_index(value, "a slice's bound");
    if (index < 0) index += size;
    return std::clamp(index, low, high);
  };
  const std::int64_t first = bound(start, stride > 0 ? low : high), last = bound(stop, stride > 0 ? high : low);
  std::vector<std::size_t> positions;
  for (std::int64_t i = first; stride > 0 ? i < last : i > last;) {
    Budget::step();
    positions.push_back(static_cast<std::size_t>(i));
    if (__builtin_add_overflow(i, stride, &i)) break;
  }
  return positions;
}

}  // namespace

Value add(const Value& a, const Value& b) {
  if (both_integers(a, b)) return integer_result(base::checked_add(a.as_integer(), b.as_integer()), a, b);
  if (both_numbers(a, b)) return real_result(a.as_real() + b.as_real(), a, b);
  if (a.is_text() && b.is_text()) {
    TrackedText joined = a.as_text();
    Budget::bytes(joined.size());
    joined.append(b.as_text());
    return Value::text(std::move(joined));
  }
  if (is_sequence(a) && is_sequence(b) && a.as_list().kind == b.as_list().kind) {
    Budget::step(8 * (a.as_list().items.size() + b.as_list().items.size()));
    std::vector<Value> items = a.as_list().items;
    items.insert(items.end(), b.as_list().items.begin(), b.as_list().items.end());
    return Value::list(std::move(items), a.as_list().kind);
  }
  mismatch("+", a, b);
}

Value subtract(const Value& a, const Value& b) {
  if (both_integers(a, b)) return integer_result(checked_subtract(a.as_integer(), b.as_integer()), a, b);
  if (both_numbers(a, b)) return real_result(a.as_real() - b.as_real(), a, b);
  mismatch("-", a, b);
}

Value multiply(const Value& a, const Value& b) {
  if (both_integers(a, b)) return integer_result(base::checked_mul(a.as_integer(), b.as_integer()), a, b);
  if (both_numbers(a, b)) return real_result(a.as_real() * b.as_real(), a, b);
  const Value& thing = a.is_number() ? b : a;
  const Value& count = a.is_number() ? a : b;
  if (count.is_number() && !count.is_real()) {
    if (thing.is_text()) return Value::text(repeat(thing.as_text(), count.as_integer()));
    if (is_sequence(thing)) return repeat_list(thing.as_list(), count.as_integer());
  }
  mismatch("*", a, b);
}

Value divide(const Value& a, const Value& b) {
  if (!both_numbers(a, b)) mismatch("/", a, b);
  if (b.as_real() == 0) throw Failure("division by zero");
  return real_result(a.as_real() / b.as_real(), a, b);
}

Value floor_divide(const Value& a, const Value& b) {
  if (!both_numbers(a, b)) mismatch("//", a, b);
  if (b.as_real() == 0) throw Failure("division by zero");
  if (!both_integers(a, b)) return real_result(std::floor(a.as_real() / b.as_real()), a, b);
  const std::int64_t x = a.as_integer(), y = b.as_integer();
  if (y == -1) return integer_result(checked_subtract(0, x), a, b);
  return integer_result(x / y - ((x % y != 0 && (x < 0) != (y < 0)) ? 1 : 0), a, b);
}

Value modulo(const Value& a, const Value& b) {
  if (a.is_text()) return Value::text(format_percent(a.as_text(), b));
  if (!both_numbers(a, b)) mismatch("%", a, b);
  if (b.as_real() == 0) throw Failure("modulo by zero");
  if (both_integers(a, b)) {
    const std::int64_t x = a.as_integer(), y = b.as_integer();
    if (y == -1) return integer_result(0, a, b);
    const std::int64_t rest = x % y;
    return integer_result(rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest, a, b);
  }
  double rest = std::fmod(a.as_real(), b.as_real());
  if (rest != 0 && (rest < 0) != (b.as_real() < 0)) rest += b.as_real();
  return real_result(rest, a, b);
}

Value power(const Value& a, const Value& b) {
  if (!both_numbers(a, b)) mismatch("**", a, b);
  if (both_integers(a, b) && b.as_integer() >= 0)
    return integer_result(integer_power(a.as_integer(), b.as_integer()), a, b);
  if (a.as_real() == 0 && b.as_real() < 0) throw Failure("zero to a negative power");
  const double result = std::pow(a.as_real(), b.as_real());
  if (std::isnan(result) || (std::isinf(result) && std::isfinite(a.as_real())))
    throw Failure("a power is out of range");
  return real_result(result, a, b);
}

Value negate(const Value& a) {
  if (a.is_real()) return Value::real(-a.as_real(), a.trusted());
  if (!a.is_number()) mismatch("unary -", a, a);
  return subtract(Value::integer(0), a);
}

Value attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) throw Failure(object.as_undefined().what);
  if (const LoopObject* loop = object.as_loop()) return loop->attribute(name);
  if (Namespace* space = object.as_namespace()) {
    if (const Value* found = space->find(name)) return *found;
  } else if (Value found = method(object, name); !found.is_undefined()) {
    return found;
  }
  if (object.is_dict()) {
    if (const Value* found = object.as_dict().find(name)) return *found;
  }
  return Value::undefined(fmt::format("'{} object' has no attribute '{}'", object.type_name(), name));
}

Value item(const Value& object, const Value& key) {
  if (object.is_undefined()) throw Failure(object.as_undefined().what);
  const bool numeric = key.is_boolean() || key.is_integer();
  if (numeric && (is_sequence(object) || object.is_text())) {
    const std::int64_t size = length(object);
    const std::int64_t index = key.as_integer() < 0 ? key.as_integer() + size : key.as_integer();
    if (index >= 0 && index < size) {
      const auto position = static_cast<std::size_t>(index);
      return object.is_text() ? Value::text(slice(object.as_text(), {position})) : object.as_list().items[position];
    }
  }
  const bool hashable = !key.is_dict() && !(key.is_list() && key.as_list().kind == List::Kind::list);
  if (object.is_dict() && hashable) {
    if (const Value* found = object.as_dict().find(key)) return *found;
  }
  if (key.is_text() && !object.is_dict()) return attribute(object, key.as_text().bytes());
  if (key.is_text()) {
    if (Value found = method(object, key.as_text().bytes()); !found.is_undefined()) return found;
  }
  return Value::undefined(fmt::format("'{} object' has no element {}", object.type_name(),
                                      key.is_text() ? "'" + key.as_text().bytes() + "'" : to_text(key).bytes()));
}

Value slice_of(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) throw Failure(object.as_undefined().what);
  if (!object.is_text() && !is_sequence(object))
    return Value::undefined(fmt::format("'{}' cannot be sliced", object.type_name()));
  const auto positions = slice_positions(length(object), start, stop, step);
  if (object.is_text()) return Value::text(slice(object.as_text(), positions));
  std::vector<Value> items;
  for (const std::size_t position : positions) items.push_back(object.as_list().items[position]);
  return Value::list(std::move(items), object.as_list().kind);
}

}  // namespace atelier::text::jinja
