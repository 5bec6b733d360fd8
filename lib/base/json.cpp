#include "base/json.h"

#include <cerrno>
#include <functional>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/error.h"
#include "base/log.h"

namespace atelier::base {
namespace {

// Builds the value from the parser's events without recursion. An open object collects its members in a plain vector and
// becomes an ordered_map when it closes: ordered_map searches all its keys at every insertion, and copies its values when
// it grows.
class Builder {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  Builder(std::string_view what, const JsonLimits& limits) : what_(what), limits_(limits) {}

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(number_integer_t value) { return add(value); }
  bool number_unsigned(number_unsigned_t value) { return add(value); }
  bool number_float(number_float_t value, const string_t&) { return add(value); }
  bool string(string_t& value) { return add(std::move(value)); }
  bool binary(binary_t&) { return false; }

  bool start_object(std::size_t) { return open(true); }
  bool start_array(std::size_t) { return open(false); }

  bool key(string_t& value) {
    Frame& frame = open_.back();
    const auto [place, fresh] = frame.seen.try_emplace(value, frame.keys.size());
    if (!fresh && !limits_.allow_duplicate_keys) {
      throw Error(ExitCode::data, fmt::format("{}: key {} stands twice in one object", what_, in_quotes(value)));
    }
    frame.slot = place->second;
    if (fresh) {
      frame.keys.push_back(std::move(value));
      frame.values.emplace_back();
    }
    return true;
  }

  bool end_object() {
    Frame frame = std::move(open_.back());
    open_.pop_back();
    Json object = Json::object();
    auto& members = static_cast<Json::object_t::Container&>(*object.get_ptr<Json::object_t*>());
    members.reserve(frame.keys.size());
    for (std::size_t i = 0; i < frame.keys.size(); ++i) {
      members.emplace_back(std::move(frame.keys[i]), std::move(frame.values[i]));
    }
    return add(std::move(object));
  }

  bool end_array() {
    Json array = Json::array();
    *array.get_ptr<Json::array_t*>() = std::move(open_.back().values);
    open_.pop_back();
    return add(std::move(array));
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) {
    throw Error(ExitCode::data, fmt::format("{}: {}", what_, json_syntax_message(error.what())));
  }

  Json take() { return std::move(root_); }

 private:
  struct Frame {
    bool is_object;
    std::size_t slot = 0;  // of the member whose value comes next
    std::vector<std::string> keys;
    std::vector<Json> values;
    std::map<std::string, std::size_t, std::less<>> seen;  // a tree: no choice of keys makes it slow
  };

  bool open(bool is_object) {
    if (open_.size() >= limits_.max_depth) {
      throw Error(ExitCode::data, fmt::format("{}: nested more than {} levels deep", what_, limits_.max_depth));
    }
    open_.push_back(Frame{is_object, 0, {}, {}, {}});
    return true;
  }

  template <typename T>
  bool add(T&& value) {
    if (open_.empty()) {
      root_ = Json(std::forward<T>(value));
    } else if (Frame& frame = open_.back(); frame.is_object) {
      frame.values[frame.slot] = Json(std::forward<T>(value));
    } else {
      frame.values.emplace_back(std::forward<T>(value));
    }
    return true;
  }

  std::string_view what_;
  JsonLimits limits_;
  std::vector<Frame> open_;
  Json root_;
};

// What a field holds, short enough for a message.
std::string describe(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
  return value.dump();
}

}  // namespace

std::string json_syntax_message(std::string_view library_message) {
  // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while parsing ..."
  constexpr std::size_t kShown = 240;
  const std::size_t bracket = library_message.find("] ");
  if (bracket != std::string_view::npos) library_message.remove_prefix(bracket + 2);
  constexpr std::string_view prefix = "parse error at ";
  if (library_message.starts_with(prefix)) library_message.remove_prefix(prefix.size());
  return fmt::format("malformed JSON: {}{}", printable(library_message.substr(0, kShown)),
                     library_message.size() > kShown ? "..." : "");
}

Json parse_json(std::string_view text, std::string_view what, const JsonLimits& limits) {
  // The lexer takes a zero byte for the end of the text and would accept whatever follows it.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    throw Error(ExitCode::data, fmt::format("{}: malformed JSON: zero byte at offset {}", what, zero));
  }
  Builder builder(what, limits);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

Json read_json_file(const std::string& path, std::uint64_t max_bytes) {
  const auto unreadable = [&] {
    return Error(ExitCode::no_input, fmt::format("{}: {}", path, std::generic_category().message(errno)));
  };
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) throw unreadable();
  std::string text;
  while (true) {
    char block[1 << 16];
    const ssize_t got = ::read(file.fd, block, sizeof block);
    if (got == 0) return parse_json(text, path);
    if (got > 0) {
      text.append(block, static_cast<std::size_t>(got));
      if (text.size() > max_bytes) {
        throw Error(ExitCode::data, fmt::format("{}: larger than {} bytes, which no such file needs", path, max_bytes));
      }
    } else if (errno != EINTR) {
      throw unreadable();
    }
  }
}

std::string dump_json(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

JsonFields::JsonFields(const Json& object, std::string what) : object_(object), what_(std::move(what)) {
  if (!object.is_object()) throw Error(ExitCode::data, fmt::format("{}: expected a JSON object", what_));
}

const Json* JsonFields::find(std::string_view key) const {
  const auto place = object_.find(std::string(key));
  return place == object_.end() || place->is_null() ? nullptr : &*place;
}

bool JsonFields::has(std::string_view key) const { return find(key) != nullptr; }

const Json& JsonFields::require(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) throw Error(ExitCode::data, fmt::format("{}: {} is missing", what_, in_quotes(key)));
  return *value;
}

Error JsonFields::mismatch(std::string_view key, const Json& value, const std::string& expected) const {
  return Error(ExitCode::data,
               fmt::format("{}: {} is {}, expected {}", what_, in_quotes(key), describe(value), expected));
}

std::int64_t JsonFields::integer(std::string_view key, std::int64_t low, std::int64_t high) const {
  const Json& value = require(key);
  const bool fits = value.is_number_unsigned() ? value.get<std::uint64_t>() <= INT64_MAX : value.is_number_integer();
  if (!fits || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high) {
    throw mismatch(key, value,
                   fmt::format("{}{} to {}", value.is_number_integer() ? "" : "an integer from ", low, high));
  }
  return value.get<std::int64_t>();
}

std::int64_t JsonFields::integer_or(std::string_view key, std::int64_t low, std::int64_t high,
                                    std::int64_t fallback) const {
  return has(key) ? integer(key, low, high) : fallback;
}

double JsonFields::number(std::string_view key, double low, double high) const {
  const Json& value = require(key);
  const double number = value.is_number() ? value.get<double>() : 0;
  if (!value.is_number() || !(number >= low && number <= high)) {
    throw mismatch(key, value, fmt::format("{}{} to {}", value.is_number() ? "" : "a number from ", low, high));
  }
  return number;
}

double JsonFields::number_or(std::string_view key, double low, double high, double fallback) const {
  return has(key) ? number(key, low, high) : fallback;
}

bool JsonFields::boolean_or(std::string_view key, bool fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) throw mismatch(key, *value, "true or false");
  return value->get<bool>();
}

std::string JsonFields::string(std::string_view key) const {
  const Json& value = require(key);
  if (!value.is_string()) throw mismatch(key, value, "a string");
  return value.get<std::string>();
}

std::string JsonFields::string_or(std::string_view key, std::string fallback) const {
  return has(key) ? string(key) : fallback;
}

}  // namespace atelier::base
