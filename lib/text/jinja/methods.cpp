#include <algorithm>
#include <array>
#include <unordered_map>

#include <fmt/format.h>

#include "text/jinja/budget.h"
#include "text/jinja/builtins.h"
#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace atelier::text::jinja {
namespace {

using TextMethod = Value (*)(const TrackedText& text, const Arguments& arguments);
using DictMethod = Value (*)(const Dict& dict, const Arguments& arguments);
using ListMethod = Value (*)(const List& list, const Arguments& arguments);

Value list_of(std::vector<TrackedText> parts, List::Kind kind = List::Kind::list) {
  std::vector<Value> items;
  for (TrackedText& part : parts) items.push_back(Value::text(std::move(part)));
  return Value::list(std::move(items), kind);
}

template <Side side>
Value strip_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("strip", arguments, {"chars"});
  if (!bound.has(0) || bound[0].is_none()) return Value::text(strip(text, nullptr, side));
  const std::string chars = bound.need_text(0).bytes();
  return Value::text(strip(text, &chars, side));
}

template <bool from_right>
Value split_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("split", arguments, {"sep", "maxsplit"});
  const std::int64_t limit = bound.integer(1, -1);
  if (!bound.has(0) || bound[0].is_none()) return list_of(split_blanks(text, limit, from_right));
  return list_of(split(text, bound.need_text(0).bytes(), limit, from_right));
}

Value splitlines_method(const TrackedText& text, const Arguments& arguments) {
  return list_of(split_lines(text, Bound("splitlines", arguments, {"keepends"}).flag(0)));
}

/// The part of a text that `start` and `end` name, and how many characters lie before it.
struct Window {
  std::string_view bytes;
  std::int64_t before = 0;
};

Window window(const TrackedText& text, const Bound& bound) {
  if (!bound.has(1) && !bound.has(2)) return {text.bytes(), 0};
  const auto all = characters(text);
  const auto size = static_cast<std::int64_t>(all.size());
  const auto clamp = [size](std::int64_t index) {
    return std::clamp(index < 0 ? index + size : index, std::int64_t{0}, size);
  };
  const std::int64_t start = clamp(bound.integer(1, 0)), end = std::max(start, clamp(bound.integer(2, size)));
  const auto offset = [&](std::int64_t i) { return i < size ? all[static_cast<std::size_t>(i)].offset : text.size(); };
  return {std::string_view(text.bytes()).substr(offset(start), offset(end) - offset(start)), start};
}

template <bool at_end>
Value affix_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound(at_end ? "endswith" : "startswith", arguments, {"prefix", "start", "end"});
  const std::string_view part = window(text, bound).bytes;
  const auto matches = [&](const Value& affix) {
    if (!affix.is_text()) throw Failure(fmt::format("startswith and endswith need strings, not {}", affix.type_name()));
    return at_end ? part.ends_with(affix.as_text().bytes()) : part.starts_with(affix.as_text().bytes());
  };
  const Value& wanted = bound.need(0);
  if (!wanted.is_list() || wanted.as_list().kind != List::Kind::tuple) return Value::boolean(matches(wanted));
  const auto& items = wanted.as_list().items;
  return Value::boolean(std::any_of(items.begin(), items.end(), matches));
}

template <bool from_right, bool must_exist>
Value find_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("find", arguments, {"sub", "start", "end"});
  const Window part = window(text, bound);
  const std::string& wanted = bound.need_text(0).bytes();
  Budget::step(1 + part.bytes.size() / 16);
  const std::size_t found = from_right ? part.bytes.rfind(wanted) : part.bytes.find(wanted);
  if (found == std::string_view::npos) {
    if (must_exist) throw Failure("substring not found");
    return Value::integer(-1);
  }
  return Value::integer(part.before + static_cast<std::int64_t>(character_count(part.bytes.substr(0, found))));
}

Value count_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("count", arguments, {"sub", "start", "end"});
  const Window part = window(text, bound);
  const std::string& wanted = bound.need_text(0).bytes();
  Budget::step(1 + part.bytes.size() / 16);
  if (wanted.empty()) return Value::integer(static_cast<std::int64_t>(character_count(part.bytes)) + 1);
  std::int64_t count = 0;
  for (std::size_t at = 0; (at = part.bytes.find(wanted, at)) != std::string_view::npos; at += wanted.size()) ++count;
  return Value::integer(count);
}

Value replace_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"});
  return Value::text(replace(text, bound.need_text(0).bytes(), bound.need_text(1), bound.integer(2, -1)));
}

Value join_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("join", arguments, {"iterable"});
  TrackedText out;
  bool first = true;
  for (const Value& part : iterate(bound.need(0))) {
    if (!part.is_text()) throw Failure(fmt::format("join needs strings, found {}", part.type_name()));
    if (!std::exchange(first, false)) out.append(text);
    out.append(part.as_text());
  }
  return Value::text(std::move(out));
}

template <Case to>
Value case_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("case", arguments, {});
  return Value::text(change_case(text, to));
}

/// True where there are characters and all pass, as Python's str.is... methods.
template <bool (*test)(std::uint32_t)>
Value all_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("is", arguments, {});
  const auto all = characters(text);
  return Value::boolean(!all.empty() &&
                        std::all_of(all.begin(), all.end(), [](const Character& c) { return test(c.code_point); }));
}

bool is_alphanumeric(std::uint32_t c) { return is_alpha(c) || is_digit(c); }

/// isupper and islower: at least one cased character, and none of the other case.
template <bool upper>
Value case_test_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("is", arguments, {});
  bool found = false;
  for (const Character& c : characters(text)) {
    if (upper ? is_lower(c.code_point) : is_upper(c.code_point)) return Value::boolean(false);
    found = found || (upper ? is_upper(c.code_point) : is_lower(c.code_point));
  }
  return Value::boolean(found);
}

template <bool suffix>
Value remove_affix_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("removeprefix", arguments, {"affix"});
  const std::string& affix = bound.need_text(0).bytes();
  if (suffix ? !text.bytes().ends_with(affix) : !text.bytes().starts_with(affix)) return Value::text(text);
  return Value::text(suffix ? text.substr(0, text.size() - affix.size()) : text.substr(affix.size()));
}

template <bool from_right>
Value partition_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("partition", arguments, {"sep"});
  const TrackedText& separator = bound.need_text(0);
  if (separator.empty()) throw Failure("empty separator");
  const std::size_t found = from_right ? text.bytes().rfind(separator.bytes()) : text.bytes().find(separator.bytes());
  if (found == std::string::npos)
    return list_of(from_right ? std::vector<TrackedText>{{}, {}, text} : std::vector<TrackedText>{text, {}, {}},
                   List::Kind::tuple);
  return list_of({text.substr(0, found), text.substr(found, separator.size()), text.substr(found + separator.size())},
                 List::Kind::tuple);
}

/// ljust, rjust and center; `width` in characters.
template <int place>
Value pad_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("just", arguments, {"width", "fillchar"});
  const TrackedText fill = bound.has(1) ? bound.need_text(1) : TrackedText(" ", true);
  if (character_count(fill.bytes()) != 1) throw Failure("the fill character must be one character");
  const std::int64_t width = to_index(bound.need(0), "the width"),
                     size = static_cast<std::int64_t>(character_count(text.bytes()));
  const std::int64_t missing = std::max<std::int64_t>(0, width - size);
  const std::int64_t centred = missing / 2 + (missing & width & 1);
  const std::int64_t before = place < 0 ? 0 : place > 0 ? missing : centred;
  TrackedText out = repeat(fill, before);
  out.append(text);
  out.append(repeat(fill, missing - before));
  return Value::text(std::move(out));
}

Value zfill_method(const TrackedText& text, const Arguments& arguments) {
  const Bound bound("zfill", arguments, {"width"});
  const std::int64_t missing =
      to_index(bound.need(0), "the width") - static_cast<std::int64_t>(character_count(text.bytes()));
  const std::size_t sign = !text.empty() && (text.bytes()[0] == '-' || text.bytes()[0] == '+') ? 1 : 0;
  TrackedText out = text.substr(0, sign);
  out.append(repeat(TrackedText("0", true), missing));
  out.append(text, sign, std::string::npos);
  return Value::text(std::move(out));
}

const std::unordered_map<std::string_view, TextMethod>& text_methods() {
  static const std::unordered_map<std::string_view, TextMethod> methods = {
      {"strip", strip_method<Side::both>},
      {"lstrip", strip_method<Side::left>},
      {"rstrip", strip_method<Side::right>},
      {"split", split_method<false>},
      {"rsplit", split_method<true>},
      {"splitlines", splitlines_method},
      {"startswith", affix_method<false>},
      {"endswith", affix_method<true>},
      {"find", find_method<false, false>},
      {"rfind", find_method<true, false>},
      {"index", find_method<false, true>},
      {"rindex", find_method<true, true>},
      {"count", count_method},
      {"replace", replace_method},
      {"join", join_method},
      {"upper", case_method<Case::upper>},
      {"lower", case_method<Case::lower>},
      {"title", case_method<Case::title_word>},
      {"capitalize", case_method<Case::capitalize>},
      {"swapcase", case_method<Case::swap>},
      {"isspace", all_method<is_space>},
      {"isalpha", all_method<is_alpha>},
      {"isdigit", all_method<is_digit>},
      {"isnumeric", all_method<is_digit>},
      {"isdecimal", all_method<is_digit>},
      {"isalnum", all_method<is_alphanumeric>},
      {"isupper", case_test_method<true>},
      {"islower", case_test_method<false>},
      {"removeprefix", remove_affix_method<false>},
      {"removesuffix", remove_affix_method<true>},
      {"partition", partition_method<false>},
      {"rpartition", partition_method<true>},
      {"ljust", pad_method<-1>},
      {"rjust", pad_method<1>},
      {"center", pad_method<0>},
      {"zfill", zfill_method}};
  return methods;
}

Value dict_get(const Dict& dict, const Arguments& arguments) {
  const Bound bound("get", arguments, {"key", "default"});
  const Value* found = dict.find(bound.need(0));
  return found ? *found : bound.has(1) ? bound[1] : Value::none();
}

enum class Part { keys, values, items };

template <Part part>
Value dict_part(const Dict& dict, const Arguments& arguments) {
  const Bound bound("items", arguments, {});
  std::vector<Value> out;
  for (const auto& [key, value] : dict.entries()) {
    out.push_back(part == Part::keys     ? key
                  : part == Part::values ? value
                                         : Value::list({key, value}, List::Kind::tuple));
  }
  return Value::list(std::move(out));
}

Value dict_copy(const Dict& dict, const Arguments& arguments) {
  const Bound bound("copy", arguments, {});
  return Value::dict(dict);
}

const std::unordered_map<std::string_view, DictMethod>& dict_methods() {
  static const std::unordered_map<std::string_view, DictMethod> methods = {{"get", dict_get},
                                                                           {"keys", dict_part<Part::keys>},
                                                                           {"values", dict_part<Part::values>},
                                                                           {"items", dict_part<Part::items>},
                                                                           {"copy", dict_copy}};
  return methods;
}

Value list_index(const List& list, const Arguments& arguments) {
  const Bound bound("index", arguments, {"value"});
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    if (equal(list.items[i], bound.need(0))) return Value::integer(static_cast<std::int64_t>(i));
  }
  throw Failure("the value is not in the list");
}

Value list_count(const List& list, const Arguments& arguments) {
  const Bound bound("count", arguments, {"value"});
  return Value::integer(
      std::count_if(list.items.begin(), list.items.end(), [&](const Value& v) { return equal(v, bound.need(0)); }));
}

const std::unordered_map<std::string_view, ListMethod>& list_methods() {
  static const std::unordered_map<std::string_view, ListMethod> methods = {{"index", list_index},
                                                                           {"count", list_count}};
  return methods;
}

/// Methods that would change their object: transformers' sandbox refuses to call them.
bool is_mutating(const Value& object, std::string_view name) {
  static constexpr auto kList =
      std::to_array<std::string_view>({"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"});
  static constexpr auto kDict = std::to_array<std::string_view>({"clear", "pop", "popitem", "setdefault", "update"});
  const auto in = [name](const auto& names) { return std::find(names.begin(), names.end(), name) != names.end(); };
  return object.is_dict() ? in(kDict) : object.is_list() && in(kList);
}

}  // namespace

Value method(const Value& object, const std::string& name) {
  const auto bind = [&](const auto& methods, auto call) {
    const auto found = methods.find(name);
    if (found == methods.end()) return Value();
    return Value::callable(
        name, [object, run = found->second, call](const Arguments& arguments) { return run(call(object), arguments); });
  };
  if (is_mutating(object, name)) {
    return Value::callable(name, [name](const Arguments&) -> Value {
      throw Failure(fmt::format("'{}' would change its object, which templates may not do", name));
    });
  }
  if (object.is_text())
    return bind(text_methods(), [](const Value& value) -> const TrackedText& { return value.as_text(); });
  if (object.is_dict()) return bind(dict_methods(), [](const Value& value) -> const Dict& { return value.as_dict(); });
  if (object.is_list() && object.as_list().kind != List::Kind::generator) {
    return bind(list_methods(), [](const Value& value) -> const List& { return value.as_list(); });
  }
  return Value();
}

}  // namespace atelier::text::jinja
