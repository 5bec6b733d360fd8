#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "text/jinja/budget.h"

namespace atelier::text::jinja {
namespace {

constexpr std::size_t kMaxContainerDepth = 150;

/// A string that two keys share exactly when Python finds them equal; nothing where the value cannot be a key.
std::optional<std::string> hash_key(const Value& value) {
  if (value.is_text()) return "s" + value.as_text().bytes();
  if (value.is_boolean() || value.is_integer()) return "i" + std::to_string(value.as_integer());
  if (value.is_real()) {
    const double number = value.as_real();
    if (number == std::floor(number) && std::fabs(number) < 9e18)
      return "i" + std::to_string(static_cast<std::int64_t>(number));
    return fmt::format("f{}", number);
  }
  if (value.is_none()) return "n";
  if (value.is_undefined()) return "u";
  if (value.is_list() && value.as_list().kind == List::Kind::tuple) {
    std::string key = "(";
    for (const Value& item : value.as_list().items) {
      const auto part = hash_key(item);
      if (!part) return std::nullopt;
      key += std::to_string(part->size()) + ":" + *part;
    }
    return key;
  }
  return std::nullopt;
}

std::size_t nested(std::size_t depth) {
  if (depth + 1 > kMaxContainerDepth) throw Failure("lists and dicts nest too deeply");
  return depth + 1;
}

}  // namespace

const Value* Dict::find(const Value& key) const {
  const auto hashed = hash_key(key);
  if (!hashed) throw Failure(fmt::format("unhashable type: '{}'", key.type_name()));
  const auto found = index_.find(*hashed);
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

const Value* Dict::find(std::string_view key) const {
  const auto found = index_.find("s" + std::string(key));
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

void Dict::set(Value key, Value value) {
  Budget::step(8);
  auto hashed = hash_key(key);
  if (!hashed) throw Failure(fmt::format("unhashable type: '{}'", key.type_name()));
  depth_ = std::max({depth_, nested(value.container_depth()), nested(key.container_depth())});
  const auto [place, inserted] = index_.try_emplace(std::move(*hashed), entries_.size());
  if (inserted) {
    entries_.emplace_back(std::move(key), std::move(value));
  } else {
    entries_[place->second].second = std::move(value);
  }
}

Value* Namespace::find(std::string_view name) {
  for (auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

Value Value::list(std::vector<Value> items, List::Kind kind) {
  Budget::step(1 + 8 * items.size());
  auto made = std::make_shared<List>();
  for (const Value& item : items) made->depth = std::max(made->depth, nested(item.container_depth()));
  made->items = std::move(items);
  made->kind = kind;
  return Value(Data(std::move(made)), true);
}

Value Value::dict(Dict value) { return Value(Data(std::make_shared<const Dict>(std::move(value))), true); }

Value Value::callable(std::string name, std::function<Value(const Arguments&)> call) {
  return Value(Data(std::make_shared<const Callable>(Callable{std::move(name), std::move(call)})), true);
}

Value Value::from_json(const base::Json& json, bool trusted) {
  const Budget::Descent descent;
  switch (json.type()) {
    case base::Json::value_t::boolean: return boolean(json.get<bool>(), trusted);
    case base::Json::value_t::number_integer: return integer(json.get<std::int64_t>(), trusted);
    case base::Json::value_t::number_unsigned: {
      const auto number = json.get<std::uint64_t>();
      if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        throw Failure(fmt::format("the number {} is too large", number));
      }
      return integer(static_cast<std::int64_t>(number), trusted);
    }
    case base::Json::value_t::number_float: return real(json.get<double>(), trusted);
    case base::Json::value_t::string: return text(json.get_ref<const std::string&>(), trusted);
    case base::Json::value_t::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(from_json(item, trusted));
      return list(std::move(items));
    }
    case base::Json::value_t::object: {
      Dict entries;
      for (const auto& [key, value] : json.items()) entries.set(text(key, trusted), from_json(value, trusted));
      return dict(std::move(entries));
    }
    default: return none(trusted);
  }
}

const Callable* Value::as_callable() const {
  const auto* held = std::get_if<std::shared_ptr<const Callable>>(&data_);
  return held ? held->get() : nullptr;
}

Namespace* Value::as_namespace() const {
  const auto* held = std::get_if<std::shared_ptr<Namespace>>(&data_);
  return held ? held->get() : nullptr;
}

const LoopObject* Value::as_loop() const {
  const auto* held = std::get_if<std::shared_ptr<const LoopObject>>(&data_);
  return held ? held->get() : nullptr;
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_boolean() || is_integer()) return as_integer() != 0;
  if (is_real()) return as_real() != 0;
  if (is_text()) return !as_text().empty();
  if (is_list()) return as_list().kind == List::Kind::generator || !as_list().items.empty();
  if (is_dict()) return as_dict().size() > 0;
  return true;
}

std::string Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_boolean()) return "bool";
  if (is_integer()) return "int";
  if (is_real()) return "float";
  if (is_text()) return "str";
  if (is_dict()) return "dict";
  if (is_list()) {
    const List::Kind kind = as_list().kind;
    return kind == List::Kind::list ? "list" : kind == List::Kind::tuple ? "tuple" : "generator";
  }
  return as_namespace() ? "Namespace" : as_loop() ? "LoopContext" : "function";
}

std::size_t Value::container_depth() const { return is_list() ? as_list().depth : is_dict() ? as_dict().depth() : 0; }

bool Value::same_as(const Value& other) const {
  if (data_.index() != other.data_.index()) return false;
  if (is_none()) return true;
  if (is_boolean() || is_integer() || is_text()) return equal(*this, other);
  if (is_list()) return &as_list() == &other.as_list();
  if (is_dict()) return &as_dict() == &other.as_dict();
  return as_namespace() == other.as_namespace() && as_callable() == other.as_callable() && as_loop() == other.as_loop();
}

bool equal(const Value& a, const Value& b) {
  Budget::step();
  if (a.is_number() && b.is_number()) {
    return a.is_real() || b.is_real() ? a.as_real() == b.as_real() : a.as_integer() == b.as_integer();
  }
  if (a.is_text() && b.is_text()) return a.as_text().bytes() == b.as_text().bytes();
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.is_list() && b.is_list()) {
    const List &x = a.as_list(), &y = b.as_list();
    if (&x == &y) return true;
    if (x.kind != y.kind || x.kind == List::Kind::generator || x.items.size() != y.items.size()) return false;
    return std::equal(x.items.begin(), x.items.end(), y.items.begin(), equal);
  }
  if (a.is_dict() && b.is_dict()) {
    const Dict &x = a.as_dict(), &y = b.as_dict();
    return x.size() == y.size() && std::all_of(x.entries().begin(), x.entries().end(), [&y](const auto& entry) {
             const Value* other = y.find(entry.first);
             return other && equal(entry.second, *other);
           });
  }
  return a.same_as(b);
}

bool less(const Value& a, const Value& b) {
  Budget::step();
  if (a.is_number() && b.is_number()) {
    return a.is_real() || b.is_real() ? a.as_real() < b.as_real() : a.as_integer() < b.as_integer();
  }
  if (a.is_text() && b.is_text()) return a.as_text().bytes() < b.as_text().bytes();
  if (a.is_list() && b.is_list() && a.as_list().kind == b.as_list().kind && a.as_list().kind != List::Kind::generator) {
    const auto &x = a.as_list().items, &y = b.as_list().items;
    for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!equal(x[i], y[i])) return less(x[i], y[i]);
    }
    return x.size() < y.size();
  }
  throw Failure(fmt::format("'{}' and '{}' cannot be compared", a.type_name(), b.type_name()));
}

bool contains(const Value& container, const Value& item) {
  if (container.is_text()) {
    if (!item.is_text())
      throw Failure(fmt::format("'in <string>' needs a string on its left, not {}", item.type_name()));
    Budget::step(1 + container.as_text().size() / 64);
    return container.as_text().bytes().find(item.as_text().bytes()) != std::string::npos;
  }
  if (container.is_dict()) return container.as_dict().find(item) != nullptr;
  const std::vector<Value> items = iterate(container);
  return std::any_of(items.begin(), items.end(), [&item](const Value& other) { return equal(item, other); });
}

std::vector<Value> iterate(const Value& value) {
  if (value.is_undefined()) return {};
  if (value.is_list()) {
    List& list = value.as_list();
    Budget::step(1 + 4 * list.items.size());
    if (list.kind != List::Kind::generator) return list.items;
    if (list.spent) return {};
    list.spent = true;
    return std::move(list.items);
  }
  std::vector<Value> items;
  if (value.is_dict()) {
    for (const auto& [key, ignored] : value.as_dict().entries()) items.push_back(key);
  } else if (value.is_text()) {
    Budget::step(8 * value.as_text().size());
    for (const Character& c : characters(value.as_text()))
      items.push_back(Value::text(value.as_text().substr(c.offset, c.length)));
  } else {
    throw Failure(fmt::format("'{}' cannot be iterated over", value.type_name()));
  }
  return items;
}

std::int64_t length(const Value& value) {
  if (value.is_undefined()) return 0;
  if (value.is_text()) return static_cast<std::int64_t>(character_count(value.as_text().bytes()));
  if (value.is_dict()) return static_cast<std::int64_t>(value.as_dict().size());
  if (value.is_list() && value.as_list().kind != List::Kind::generator) {
    return static_cast<std::int64_t>(value.as_list().items.size());
  }
  throw Failure(fmt::format("'{}' has no length", value.type_name()));
}

std::int64_t to_index(const Value& value, std::string_view what) {
  if (!value.is_boolean() && !value.is_integer()) {
    throw Failure(fmt::format("{} must be an integer, not {}", what, value.type_name()));
  }
  return value.as_integer();
}

}  // namespace atelier::text::jinja
