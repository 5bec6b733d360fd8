#include <ctime>
#include <optional>

#include <fmt/format.h>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/clock.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace atelier::text::jinja {
namespace {

constexpr std::uint64_t kMaxRange = 100'000;  // as Jinja's sandbox
constexpr std::size_t kMaxTimeText = 4096;

std::optional<std::time_t>& fixed_time() {
  static std::optional<std::time_t> time;
  return time;
}

Value raise_exception(const Arguments& arguments) {
  const Bound bound("raise_exception", arguments, {"message"});
  throw RaisedException(to_text(bound.need(0)).bytes());
}

Value strftime_now(const Arguments& arguments) {
  const Bound bound("strftime_now", arguments, {"format"});
  const TrackedText& format = bound.need_text(0);
  const std::time_t time = now();
  std::tm local{};
  localtime_r(&time, &local);
  // The marker in front tells an empty result from one that did not fit.
  std::string out(kMaxTimeText, '\0');
  const std::size_t size = std::strftime(out.data(), out.size(), ("." + format.bytes()).c_str(), &local);
  if (size == 0) throw Failure("strftime_now: the format is too long");
  return Value::text(std::string_view(out).substr(1, size - 1), format.all_trusted());
}

Value range(const Arguments& arguments) {
  const Bound bound("range", arguments, {"start", "stop", "step"});
  const std::int64_t first = to_index(bound.need(0), "range's bound");
  const std::int64_t start = bound.has(1) ? first : 0,
                     stop = bound.has(1) ? to_index(bound[1], "range's bound") : first;
  const std::int64_t step = bound.integer(2, 1);
  if (step == 0) throw Failure("range's step must not be zero");
  std::vector<Value> items;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (items.size() == kMaxRange) throw Failure(fmt::format("a range of more than {} numbers", kMaxRange));
    items.push_back(Value::integer(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value::list(std::move(items));
}

Value make_dict(const Arguments& arguments) {
  Dict dict;
  if (arguments.positional.size() > 1) throw Failure("dict takes at most one argument by position");
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is_dict()) {
      dict = source.as_dict();
    } else {
      for (const Value& pair : iterate(source)) {
        const auto parts = iterate(pair);
        if (parts.size() != 2) throw Failure("dict needs pairs");
        dict.set(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.keyword) dict.set(Value::text(name, true), value);
  return Value::dict(std::move(dict));
}

}  // namespace

std::time_t now() { return fixed_time() ? *fixed_time() : std::time(nullptr); }

ScopedClock::ScopedClock(std::time_t time) { fixed_time() = time; }
ScopedClock::~ScopedClock() { fixed_time().reset(); }

Bound::Bound(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> parameters)
    : function_(function), names_(parameters), values_(parameters.size()), given_(parameters.size(), false) {
  if (arguments.positional.size() > names_.size()) {
    throw Failure(
        fmt::format("{} takes at most {} arguments, not {}", function_, names_.size(), arguments.positional.size()));
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = arguments.positional[i], given_[i] = true;
  for (const auto& [name, value] : arguments.keyword) {
    std::size_t i = 0;
    while (i < names_.size() && names_[i] != name) ++i;
    if (i == names_.size() || given_[i]) throw Failure(fmt::format("{}: unexpected argument '{}'", function_, name));
    values_[i] = value, given_[i] = true;
  }
}

std::int64_t Bound::integer(std::size_t parameter, std::int64_t fallback) const {
  return has(parameter) ? to_index(values_[parameter], fmt::format("{}: {}", function_, names_[parameter])) : fallback;
}

const Value& Bound::need(std::size_t parameter) const {
  if (!has(parameter)) throw Failure(fmt::format("{} needs the argument '{}'", function_, names_[parameter]));
  return values_[parameter];
}

const TrackedText& Bound::need_text(std::size_t parameter) const {
  const Value& value = need(parameter);
  if (!value.is_text())
    throw Failure(fmt::format("{}: '{}' must be a string, not {}", function_, names_[parameter], value.type_name()));
  return value.as_text();
}

std::vector<std::pair<std::string, Value>> global_functions() {
  return {{"raise_exception", Value::callable("raise_exception", raise_exception)},
          {"strftime_now", Value::callable("strftime_now", strftime_now)},
          {"range", Value::callable("range", range)},
          {"dict", Value::callable("dict", make_dict)}};
}

}  // namespace atelier::text::jinja
