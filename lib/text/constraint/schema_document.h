#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/json.h"

namespace atelier::text::constraint {

using Schema = const base::Json*;

/// A JSON Schema with its references: says where a part lies and what a reference points to.
class SchemaDocument {
 public:
  /// Error(data) for a text that is no schema. `what` names it in messages. The value must outlive this.
  SchemaDocument(const base::Json& root, std::string_view what);

  Schema root() const { return &root_; }
  /// The target of "$ref" in `at`. Error(data) where it is outside the document or nowhere.
  Schema resolve(Schema at, const std::string& reference) const;
  /// A schema of our own that stands for a part of `at`.
  Schema add(base::Json schema, Schema at);

  /// Error(data): `what: #/path: "keyword" message`.
  [[noreturn]] void fail(Schema at, std::string_view keyword, std::string_view message, std::string hint = {}) const;
  /// Refuses what is neither an object of known keywords nor a boolean.
  void check(Schema schema) const;

  const base::Json* find(Schema at, const char* keyword) const;
  std::uint32_t count(Schema at, const char* keyword, std::uint32_t fallback) const;
  const std::string& text(Schema at, const char* keyword) const;
  const base::Json& list(Schema at, const char* keyword) const;  ///< not empty
  const base::Json& object(Schema at, const char* keyword) const;

 private:
  void index(const base::Json& value, const std::string& path, Schema resource);
  Schema follow(Schema from, std::string_view pointer) const;

  const base::Json& root_;
  std::string what_;
  std::unordered_map<Schema, std::string> paths_;
  std::unordered_map<Schema, Schema> resources_;  ///< the nearest part with an $id around it
  std::unordered_map<std::string, Schema> ids_;
  std::map<std::pair<Schema, std::string>, Schema> anchors_;  ///< by the resource that they stand in
  std::deque<base::Json> own_;
};

}  // namespace atelier::text::constraint
