#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace atelier::text::jinja {
namespace {

/// "a.b.0" as successive keys; whole numbers count as element numbers.
std::vector<Value> path_of(const Value& attribute) {
  if (!attribute.is_text()) return {attribute};
  std::vector<Value> path;
  for (const TrackedText& part : split(attribute.as_text(), ".", -1, false)) {
    const std::string& key = part.bytes();
    const bool number = !key.empty() && key.size() < 10 &&
                        std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
    path.push_back(number ? Value::integer(std::stoll(key)) : Value::text(part));
  }
  return path;
}

Value follow(Value value, const std::vector<Value>& path, const Value& fallback = {}) {
  for (const Value& key : path) {
    value = item(value, key);
    if (value.is_undefined() && !fallback.is_undefined()) value = fallback;
  }
  return value;
}

Value ignoring_case(const Value& value) {
  return value.is_text() ? Value::text(change_case(value.as_text(), Case::lower)) : value;
}

/// What elements are compared by: themselves or an attribute, texts without regard to case unless asked for.
class SortKey {
 public:
  SortKey(const Value& attribute, bool case_sensitive, bool several) : case_sensitive_(case_sensitive) {
    if (attribute.is_undefined() || attribute.is_none()) return;
    if (several && attribute.is_text()) {
      for (const TrackedText& part : split(attribute.as_text(), ",", -1, false))
        paths_.push_back(path_of(Value::text(part)));
    } else {
      paths_.push_back(path_of(attribute));
    }
  }

  Value operator()(const Value& value) const {
    if (paths_.empty()) return fold(value);
    if (paths_.size() == 1) return fold(follow(value, paths_[0]));
    std::vector<Value> keys;
    for (const auto& path : paths_) keys.push_back(fold(follow(value, path)));
    return Value::list(std::move(keys), List::Kind::tuple);
  }

 private:
  Value fold(const Value& value) const { return case_sensitive_ ? value : ignoring_case(value); }

  std::vector<std::vector<Value>> paths_;
  bool case_sensitive_;
};

std::vector<Value> sorted(const std::vector<Value>& items, const SortKey& key, bool reverse) {
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& value : items) keyed.emplace_back(key(value), value);
  std::stable_sort(keyed.begin(), keyed.end(), [reverse](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  });
  std::vector<Value> out;
  for (auto& entry : keyed) out.push_back(std::move(entry.second));
  return out;
}

Value sort(const Value& value, const Arguments& arguments) {
  const Bound bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  return Value::list(sorted(iterate(value), SortKey(bound[2], bound.flag(1), true), bound.flag(0)));
}

Value dictsort(const Value& value, const Arguments& arguments) {
  const Bound bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.has(1) ? bound.need_text(1).bytes() : "key";
  if (by != "key" && by != "value") throw Failure("dictsort: 'by' must be key or value");
  if (!value.is_dict())
    throw Failure(value.is_undefined() ? value.as_undefined().what
                                       : fmt::format("dictsort needs a dict, not {}", value.type_name()));
  std::vector<Value> pairs;
  for (const auto& [key, entry] : value.as_dict().entries())
    pairs.push_back(Value::list({key, entry}, List::Kind::tuple));
  return Value::list(sorted(pairs, SortKey(Value::integer(by == "key" ? 0 : 1), bound.flag(0), false), bound.flag(2)));
}

Value unique(const Value& value, const Arguments& arguments) {
  const Bound bound("unique", arguments, {"case_sensitive", "attribute"});
  const SortKey key(bound[1], bound.flag(0), false);
  Dict seen;
  std::vector<Value> out;
  for (const Value& candidate : iterate(value)) {
    const Value by = key(candidate);
    if (seen.find(by)) continue;
    seen.set(by, Value::none());
    out.push_back(candidate);
  }
  return Value::list(std::move(out), List::Kind::generator);
}

template <bool greatest>
Value extreme(const Value& value, const Arguments& arguments) {
  const Bound bound(greatest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const SortKey key(bound[1], bound.flag(0), false);
  const auto items = iterate(value);
  if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  std::size_t best = 0;
  Value best_key = key(items[0]);
  for (std::size_t i = 1; i < items.size(); ++i) {
    Value candidate = key(items[i]);
    if (greatest ? less(best_key, candidate) : less(candidate, best_key)) best = i, best_key = std::move(candidate);
  }
  return items[best];
}

Value sum(const Value& value, const Arguments& arguments) {
  const Bound bound("sum", arguments, {"attribute", "start"});
  const bool by_attribute = bound.has(0) && !bound[0].is_none();
  const auto path = by_attribute ? path_of(bound[0]) : std::vector<Value>();
  Value total = bound.has(1) ? bound[1] : Value::integer(0);
  if (total.is_text()) throw Failure("sum cannot add strings; use join");
  for (const Value& element : iterate(value)) total = add(total, follow(element, path));
  return total;
}

Value join(const Value& value, const Arguments& arguments) {
  const Bound bound("join", arguments, {"d", "attribute"});
  const TrackedText separator = bound.has(0) ? to_text(bound[0]) : TrackedText();
  const auto path = bound.has(1) && !bound[1].is_none() ? path_of(bound[1]) : std::vector<Value>();
  TrackedText out;
  bool first = true;
  for (const Value& element : iterate(value)) {
    if (!std::exchange(first, false)) out.append(separator);
    out.append(to_text(follow(element, path)));
  }
  return Value::text(std::move(out));
}

Value first(const Value& value, const Arguments& arguments) {
  const Bound bound("first", arguments, {});
  if (value.is_list() && value.as_list().kind == List::Kind::generator && !value.as_list().spent &&
      !value.as_list().items.empty()) {
    List& generator = value.as_list();  // takes one element and leaves the others
    Value taken = generator.items.front();
    Budget::step(1 + generator.items.size());
    generator.items.erase(generator.items.begin());
    return taken;
  }
  const auto items = iterate(value);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(const Value& value, const Arguments& arguments) {
  const Bound bound("last", arguments, {});
  if (value.is_list() && value.as_list().kind == List::Kind::generator)
    throw Failure("a generator has no last element; put `| list` before it");
  const auto items = iterate(value);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value reverse(const Value& value, const Arguments& arguments) {
  const Bound bound("reverse", arguments, {});
  auto items = iterate(value);
  std::reverse(items.begin(), items.end());
  if (!value.is_text()) return Value::list(std::move(items), List::Kind::generator);
  TrackedText out;
  for (const Value& character : items) out.append(character.as_text());
  return Value::text(std::move(out));
}

Value list(const Value& value, const Arguments& arguments) {
  const Bound bound("list", arguments, {});
  return Value::list(iterate(value));
}

Value items_filter(const Value& value, const Arguments& arguments) {
  const Bound bound("items", arguments, {});
  std::vector<Value> out;
  if (value.is_dict()) {
    for (const auto& [key, entry] : value.as_dict().entries())
      out.push_back(Value::list({key, entry}, List::Kind::tuple));
  } else if (!value.is_undefined()) {
    throw Failure(fmt::format("items needs a mapping, not {}", value.type_name()));
  }
  return Value::list(std::move(out), List::Kind::generator);
}

Value length_filter(const Value& value, const Arguments& arguments) {
  const Bound bound("length", arguments, {});
  return Value::integer(length(value));
}

Value default_filter(const Value& value, const Arguments& arguments) {
  const Bound bound("default", arguments, {"default_value", "boolean"});
  const bool replace = value.is_undefined() || (bound.flag(1) && !value.truthy());
  return !replace ? value : bound.has(0) ? bound[0] : Value::text("", true);
}

Value attr(const Value& value, const Arguments& arguments) {
  const Bound bound("attr", arguments, {"name"});
  const std::string name = bound.need_text(0).bytes();
  // Unlike `value.name` this never looks for a key.
  return value.is_dict() ? method(value, name) : attribute(value, name);
}

/// The arguments behind the first `count`.
Arguments behind(const Arguments& arguments, std::size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin(), rest.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return rest;
}

Value map(const Value& value, const Arguments& arguments) {
  if (!value.truthy()) return Value::list({}, List::Kind::generator);
  std::vector<Value> out;
  if (arguments.positional.empty()) {
    const Bound bound("map", arguments, {"attribute", "default"});
    const auto path = path_of(bound.need(0));
    for (const Value& element : iterate(value))
      out.push_back(follow(element, path, bound[1].is_none() ? Value() : bound[1]));
    return Value::list(std::move(out), List::Kind::generator);
  }
  const std::string name = to_text(arguments.positional[0]).bytes();
  const Filter filter = find_filter(name);
  if (!filter) throw Failure(fmt::format("no filter named '{}'", name));
  const Arguments rest = behind(arguments, 1);
  for (const Value& element : iterate(value)) out.push_back(filter(element, rest));
  return Value::list(std::move(out), List::Kind::generator);
}

/// select, reject, selectattr and rejectattr.
template <bool keep, bool by_attribute>
Value select(const Value& value, const Arguments& arguments) {
  if (!value.truthy()) return Value::list({}, List::Kind::generator);
  std::vector<Value> path;
  const std::size_t offset = by_attribute ? 1 : 0;
  if (by_attribute) {
    if (arguments.positional.empty()) throw Failure("the name of an attribute is missing");
    path = path_of(arguments.positional[0]);
  }
  Test test = [](const Value& candidate, const Arguments&) { return candidate.truthy(); };
  Arguments rest;
  if (arguments.positional.size() > offset) {
    const std::string name = to_text(arguments.positional[offset]).bytes();
    test = find_test(name);
    if (!test) throw Failure(fmt::format("no test named '{}'", name));
    rest = behind(arguments, offset + 1);
  }
  std::vector<Value> out;
  for (const Value& element : iterate(value)) {
    if (test(follow(element, path), rest) == keep) out.push_back(element);
  }
  return Value::list(std::move(out), List::Kind::generator);
}

}  // namespace

Filter find_sequence_filter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> filters = {{"sort", sort},
                                                                       {"dictsort", dictsort},
                                                                       {"unique", unique},
                                                                       {"min", extreme<false>},
                                                                       {"max", extreme<true>},
                                                                       {"sum", sum},
                                                                       {"join", join},
                                                                       {"first", first},
                                                                       {"last", last},
                                                                       {"reverse", reverse},
                                                                       {"list", list},
                                                                       {"items", items_filter},
                                                                       {"length", length_filter},
                                                                       {"count", length_filter},
                                                                       {"default", default_filter},
                                                                       {"d", default_filter},
                                                                       {"attr", attr},
                                                                       {"map", map},
                                                                       {"select", select<true, false>},
                                                                       {"reject", select<false, false>},
                                                                       {"selectattr", select<true, true>},
                                                                       {"rejectattr", select<false, true>}};
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : found->second;
}

Filter find_filter(std::string_view name) {
  const Filter found = find_text_filter(name);
  return found ? found : find_sequence_filter(name);
}

}  // namespace atelier::text::jinja
