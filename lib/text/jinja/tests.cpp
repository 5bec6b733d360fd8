#include <unordered_map>

#include <fmt/format.h>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace atelier::text::jinja {
namespace {

void no_arguments(const Arguments& arguments) { const Bound bound("a test", arguments, {}); }

const Value& one_argument(const Arguments& arguments) {
  if (arguments.positional.size() != 1 || !arguments.keyword.empty()) throw Failure("a test needs one argument");
  return arguments.positional[0];
}

/// A test of the value alone.
template <bool (*test)(const Value&)>
bool plain(const Value& value, const Arguments& arguments) {
  no_arguments(arguments);
  return test(value);
}

bool remainder_is(const Value& value, const Value& divisor, std::int64_t wanted) {
  return equal(modulo(value, divisor), Value::integer(wanted));
}

bool odd(const Value& value) { return remainder_is(value, Value::integer(2), 1); }
bool even(const Value& value) { return remainder_is(value, Value::integer(2), 0); }
bool divisible(const Value& value, const Arguments& arguments) {
  return remainder_is(value, one_argument(arguments), 0);
}
bool defined(const Value& value) { return !value.is_undefined(); }
bool undefined(const Value& value) { return value.is_undefined(); }
bool none(const Value& value) { return value.is_none(); }
bool boolean(const Value& value) { return value.is_boolean(); }
bool is_true(const Value& value) { return value.is_boolean() && value.as_boolean(); }
bool is_false(const Value& value) { return value.is_boolean() && !value.as_boolean(); }
bool integer(const Value& value) { return value.is_integer(); }
bool real(const Value& value) { return value.is_real(); }
bool number(const Value& value) { return value.is_number(); }
bool string(const Value& value) { return value.is_text(); }
bool mapping(const Value& value) { return value.is_dict(); }
bool sequence(const Value& value) {
  return value.is_text() || value.is_dict() || value.is_undefined() ||
         (value.is_list() && value.as_list().kind != List::Kind::generator);
}
bool iterable(const Value& value) {
  return value.is_text() || value.is_dict() || value.is_undefined() || value.is_list();
}
bool callable(const Value& value) { return value.as_callable() != nullptr; }
bool escaped(const Value&) { return false; }
bool is_filter(const Value& value) { return value.is_text() && find_filter(value.as_text().bytes()); }
bool is_test(const Value& value) { return value.is_text() && find_test(value.as_text().bytes()); }

bool cased(const Value& value, const char* name) {
  return method(Value::text(to_text(value)), name).as_callable()->call({}).truthy();
}
bool lower(const Value& value) { return cased(value, "islower"); }
bool upper(const Value& value) { return cased(value, "isupper"); }

bool same(const Value& value, const Arguments& arguments) { return value.same_as(one_argument(arguments)); }
bool in(const Value& value, const Arguments& arguments) { return contains(one_argument(arguments), value); }
bool equals(const Value& value, const Arguments& arguments) { return equal(value, one_argument(arguments)); }
bool differs(const Value& value, const Arguments& arguments) { return !equal(value, one_argument(arguments)); }
bool below(const Value& value, const Arguments& arguments) { return less(value, one_argument(arguments)); }
bool above(const Value& value, const Arguments& arguments) { return less(one_argument(arguments), value); }
bool at_most(const Value& value, const Arguments& arguments) { return !above(value, arguments); }
bool at_least(const Value& value, const Arguments& arguments) { return !below(value, arguments); }

}  // namespace

Test find_test(std::string_view name) {
  static const std::unordered_map<std::string_view, Test> tests = {{"odd", plain<odd>},
                                                                   {"even", plain<even>},
                                                                   {"divisibleby", divisible},
                                                                   {"defined", plain<defined>},
                                                                   {"undefined", plain<undefined>},
                                                                   {"none", plain<none>},
                                                                   {"boolean", plain<boolean>},
                                                                   {"true", plain<is_true>},
                                                                   {"false", plain<is_false>},
                                                                   {"integer", plain<integer>},
                                                                   {"float", plain<real>},
                                                                   {"number", plain<number>},
                                                                   {"string", plain<string>},
                                                                   {"mapping", plain<mapping>},
                                                                   {"sequence", plain<sequence>},
                                                                   {"iterable", plain<iterable>},
                                                                   {"callable", plain<callable>},
                                                                   {"escaped", plain<escaped>},
                                                                   {"filter", plain<is_filter>},
                                                                   {"test", plain<is_test>},
                                                                   {"lower", plain<lower>},
                                                                   {"upper", plain<upper>},
                                                                   {"sameas", same},
                                                                   {"in", in},
                                                                   {"==", equals},
                                                                   {"eq", equals},
                                                                   {"equalto", equals},
                                                                   {"!=", differs},
                                                                   {"ne", differs},
                                                                   {">", above},
                                                                   {"gt", above},
                                                                   {"greaterthan", above},
                                                                   {">=", at_least},
                                                                   {"ge", at_least},
                                                                   {"<", below},
                                                                   {"lt", below},
                                                                   {"lessthan", below},
                                                                   {"<=", at_most},
                                                                   {"le", at_most}};
  const auto found = tests.find(name);
  return found == tests.end() ? nullptr : found->second;
}

}  // namespace atelier::text::jinja
