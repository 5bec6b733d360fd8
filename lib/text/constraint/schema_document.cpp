#include "text/constraint/schema_document.h"

#include <algorithm>
#include <array>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"

namespace atelier::text::constraint {
namespace {

using base::Json;

/// Keywords that ask something of a value.
const std::vector<std::string> asking = {"type",
                                         "enum",
                                         "const",
                                         "allOf",
                                         "anyOf",
                                         "oneOf",
                                         "not",
                                         "if",
                                         "then",
                                         "else",
                                         "$ref",
                                         "properties",
                                         "patternProperties",
                                         "additionalProperties",
                                         "required",
                                         "minProperties",
                                         "maxProperties",
                                         "propertyNames",
                                         "dependentRequired",
                                         "dependentSchemas",
                                         "items",
                                         "prefixItems",
                                         "additionalItems",
                                         "minItems",
                                         "maxItems",
                                         "uniqueItems",
                                         "minLength",
                                         "maxLength",
                                         "pattern",
                                         "format",
                                         "minimum",
                                         "maximum",
                                         "exclusiveMinimum",
                                         "exclusiveMaximum",
                                         "multipleOf"};
/// Keywords that ask nothing, or only hold what others refer to.
const std::vector<std::string> harmless = {"title",    "description", "default",     "examples",   "deprecated",
                                           "readOnly", "writeOnly",   "$comment",    "$schema",    "$id",
                                           "$anchor",  "$defs",       "definitions", "$vocabulary"};
/// Keywords of the standard that are not supported.
const std::vector<std::string> standard = {"contains",         "minContains",
                                           "maxContains",      "unevaluatedProperties",
                                           "unevaluatedItems", "dependencies",
                                           "$dynamicRef",      "$dynamicAnchor",
                                           "$recursiveRef",    "$recursiveAnchor",
                                           "contentEncoding",  "contentMediaType",
                                           "contentSchema",    "id"};

bool among(const std::vector<std::string>& words, const std::string& word) {
  return std::ranges::find(words, word) != words.end();
}

/// "~1" is a slash, "~0" a tilde (RFC 6901), "%xx" a byte.
std::string unescape(std::string_view token) {
  std::string text;
  for (std::size_t i = 0; i < token.size(); ++i) {
    const auto digit = [&](std::size_t at) {
      const char c = at < token.size() ? token[at] : 'x';
      return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
    };
    if (token[i] == '%' && digit(i + 1) >= 0 && digit(i + 2) >= 0) {
      text += static_cast<char>(digit(i + 1) * 16 + digit(i + 2));
      i += 2;
    } else {
      text += token[i];
    }
  }
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '~' && i + 1 < text.size() && (text[i + 1] == '0' || text[i + 1] == '1'))
      plain += text[++i] == '1' ? '/' : '~';
    else
      plain += text[i];
  }
  return plain;
}

std::string escape(const std::string& key) {
  std::string text;
  for (const char c : key) text += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return text;
}

}  // namespace

SchemaDocument::SchemaDocument(const Json& root, std::string_view what) : root_(root), what_(what) {
  index(root, "#", &root);
}

void SchemaDocument::index(const Json& value, const std::string& path, Schema resource) {
  paths_[&value] = path;
  if (value.is_object()) {
    if (const auto id = value.find("$id"); id != value.end() && id->is_string()) {
      resource = &value;
      ids_.emplace(id->get<std::string>(), &value);
    }
    if (const auto anchor = value.find("$anchor"); anchor != value.end() && anchor->is_string())
      anchors_.emplace(std::pair(resource, anchor->get<std::string>()), &value);
  }
  resources_[&value] = resource;
  if (value.is_object())
    for (const auto& [key, part] : value.items()) index(part, path + "/" + escape(key), resource);
  if (value.is_array())
    for (std::size_t i = 0; i < value.size(); ++i) index(value[i], fmt::format("{}/{}", path, i), resource);
}

Schema SchemaDocument::add(Json schema, Schema at) {
  own_.push_back(std::move(schema));
  index(own_.back(), paths_.at(at), resources_.at(at));
  return &own_.back();
}

void SchemaDocument::fail(Schema at, std::string_view keyword, std::string_view message, std::string hint) const {
  const auto path = paths_.find(at);
  throw base::Error(base::ExitCode::data,
                    fmt::format("{}: {}: {} {}", what_, base::printable(path == paths_.end() ? "#" : path->second),
                                base::in_quotes(keyword), message),
                    std::move(hint));
}

void SchemaDocument::check(Schema schema) const {
  if (schema->is_boolean()) return;
  if (!schema->is_object()) {
    throw base::Error(base::ExitCode::data, fmt::format("{}: {}: a schema is an object, true or false", what_,
                                                        base::printable(paths_.at(schema))));
  }
  for (const auto& [key, value] : schema->items()) {
    if (among(asking, key) || among(harmless, key)) continue;
    if (among(standard, key)) fail(schema, key, "is not supported");
    const std::string near = base::nearest(key, asking);
    fail(schema, key, "is no keyword that is known", near.empty() ? "" : fmt::format("did you mean \"{}\"?", near));
  }
}

const Json* SchemaDocument::find(Schema at, const char* keyword) const {
  if (!at->is_object()) return nullptr;
  const auto found = at->find(keyword);
  return found == at->end() ? nullptr : &*found;
}

std::uint32_t SchemaDocument::count(Schema at, const char* keyword, std::uint32_t fallback) const {
  const Json* value = find(at, keyword);
  if (value == nullptr) return fallback;
  const double number = value->is_number() ? value->get<double>() : -1;
  if (number < 0 || number != static_cast<double>(static_cast<std::int64_t>(std::min(number, 1e15))))
    fail(at, keyword, "must be a whole number of at least 0");
  return static_cast<std::uint32_t>(std::min(number, 4e9));
}

const std::string& SchemaDocument::text(Schema at, const char* keyword) const {
  const Json& value = at->at(keyword);
  if (!value.is_string()) fail(at, keyword, "must be a text");
  return value.get_ref<const std::string&>();
}

const Json& SchemaDocument::list(Schema at, const char* keyword) const {
  const Json& value = at->at(keyword);
  if (!value.is_array() || value.empty()) fail(at, keyword, "must be a list of at least one entry");
  return value;
}

const Json& SchemaDocument::object(Schema at, const char* keyword) const {
  const Json& value = at->at(keyword);
  if (!value.is_object()) fail(at, keyword, "must be an object");
  return value;
}

Schema SchemaDocument::follow(Schema from, std::string_view pointer) const {
  while (!pointer.empty()) {
    if (pointer[0] != '/') return nullptr;
    const std::size_t end = std::min(pointer.find('/', 1), pointer.size());
    const std::string token = unescape(pointer.substr(1, end - 1));
    pointer.remove_prefix(end);
    if (from->is_object()) {
      const auto found = from->find(token);
      if (found == from->end()) return nullptr;
      from = &*found;
    } else if (from->is_array()) {
      if (token.empty() || token.size() > 6 || token.find_first_not_of("0123456789") != std::string::npos)
        return nullptr;
      const std::size_t i = std::stoul(token);
      if (i >= from->size()) return nullptr;
      from = &(*from)[i];
    } else {
      return nullptr;
    }
  }
  return from;
}

Schema SchemaDocument::resolve(Schema at, const std::string& reference) const {
  const std::size_t hash = std::min(reference.find('#'), reference.size());
  const std::string base = reference.substr(0, hash);
  Schema from = resources_.at(at);
  if (!base.empty()) {
    const auto id = ids_.find(base);
    const auto id_with_hash = ids_.find(base + "#");
    if (id == ids_.end() && id_with_hash == ids_.end())
      fail(at, "$ref",
           fmt::format("is {}: only parts of the same file can be referred to", base::in_quotes(reference)));
    from = id != ids_.end() ? id->second : id_with_hash->second;
  }
  const std::string fragment = hash < reference.size() ? reference.substr(hash + 1) : "";
  Schema target = nullptr;
  if (fragment.empty() || fragment[0] == '/') {
    target = follow(from, fragment);
  } else if (const auto anchor = anchors_.find({from, fragment}); anchor != anchors_.end()) {
    target = anchor->second;
  }
  if (target == nullptr) fail(at, "$ref", fmt::format("is {}, which is nowhere", base::in_quotes(reference)));
  return target;
}

}  // namespace atelier::text::constraint
