#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace atelier::base {

/// Keeps the order of keys: records are printed in the contract's order and templates see the user's order.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  std::size_t max_depth = 128;        ///< nested arrays and objects
  bool allow_duplicate_keys = false;  ///< never in our own formats
};

/// Parses one JSON document (RFC 8259, UTF-8, nothing after it). `what` names it in errors ("config.json", "line 3").
/// Integers that fit 64 bits stay exact, others become doubles. Throws Error(data): malformed, too deep, a key twice. Never recurses, so depth cannot exhaust the stack, and stops
/// at the first offence, so a 512,000-bracket bomb costs nothing.
Json parse_json(std::string_view text, std::string_view what, const JsonLimits& limits = {});

/// Reads and parses a file; Error(no_input) where it cannot be read. `max_bytes` guards against absurd files.
Json read_json_file(const std::string& path, std::uint64_t max_bytes = 64u << 20);

/// What the JSON library says about a syntax error, as one short line without its own prefix; for SAX handlers.
std::string json_syntax_message(std::string_view library_message);

/// Compact, one line, invalid UTF-8 replaced: what goes to stdout as a record.
std::string dump_json(const Json& value);

/// Range-checked reading of configuration fields: every mismatch is Error(data) naming the file and the key, e.g.
/// `config.json: "head_dim" is -1, expected 1 to 4096`.
class JsonFields {
 public:
  /// `object` must be a JSON object and outlive this. `what` is the file's name for messages.
  JsonFields(const Json& object, std::string what);

  bool has(std::string_view key) const;  ///< present and not null
  std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high) const;
  std::int64_t integer_or(std::string_view key, std::int64_t low, std::int64_t high, std::int64_t fallback) const;
  double number(std::string_view key, double low, double high) const;
  double number_or(std::string_view key, double low, double high, double fallback) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  std::string string(std::string_view key) const;
  std::string string_or(std::string_view key, std::string fallback) const;
  const Json* find(std::string_view key) const;  ///< null where absent or null
  const std::string& what() const { return what_; }

 private:
  const Json& require(std::string_view key) const;
  Error mismatch(std::string_view key, const Json& value, const std::string& expected) const;

  const Json& object_;
  std::string what_;
};

}  // namespace atelier::base
