#include "text/tokenizer_config.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"

namespace atelier::text {
namespace {

namespace fs = std::filesystem;
using base::Json;

constexpr std::int64_t kMaxId = 1 << 24;
constexpr std::uint64_t kMaxConfigBytes = 64u << 20;

[[noreturn]] void fail(const std::string& what, const std::string& message) {
  throw base::Error(base::ExitCode::data, what + ": " + message);
}

AddedToken make_added(std::int64_t id, const Json& entry, const std::string& what) {
  if (id < 0 || id > kMaxId) fail(what, fmt::format("added token has the id {}, expected 0 to {}", id, kMaxId));
  const auto content = token_content(entry);
  if (!content || content->empty()) fail(what, fmt::format("added token {} has no content", id));
  const bool special = entry.is_object() && entry.contains("special") && entry["special"] == true;
  return {id, *content, special};
}

void read_config(const std::string& path, TokenizerConfig& config) {
  const std::string what = fs::path(path).filename().string();
  const Json json = base::read_json_file(path, kMaxConfigBytes);
  if (!json.is_object()) fail(what, "expected a JSON object");
  for (const auto& [key, value] : json.items()) {
    if (key.ends_with("_token")) {
      if (const auto content = token_content(value)) {
        config.special_names.push_back(*content);
        config.roles[key] = *content;
      }
    } else if (key == "additional_special_tokens" || key == "extra_special_tokens") {
      if (!value.is_array() && !value.is_object()) continue;
      for (const auto& item : value) {
        if (const auto content = token_content(item)) config.special_names.push_back(*content);
      }
    } else if (key == "added_tokens_decoder") {
      if (!value.is_object()) fail(what, "\"added_tokens_decoder\" must be an object");
      for (const auto& [id_text, entry] : value.items()) {
        std::int64_t id = -1;
        const auto parsed = std::from_chars(id_text.data(), id_text.data() + id_text.size(), id);
        if (parsed.ec != std::errc() || parsed.ptr != id_text.data() + id_text.size()) {
          fail(what, fmt::format("\"{}\" in added_tokens_decoder is not an id", id_text));
        }
        config.added.push_back(make_added(id, entry, what));
      }
    }
  }
}

/// The older file: {"<image_soft_token>": 262144}.
void read_added_tokens_file(const std::string& path, TokenizerConfig& config) {
  const std::string what = fs::path(path).filename().string();
  const Json json = base::read_json_file(path, kMaxConfigBytes);
  if (!json.is_object()) fail(what, "expected a JSON object");
  for (const auto& [content, id] : json.items()) {
    if (!id.is_number_integer()) fail(what, fmt::format("the id of \"{}\" is not an integer", content));
    const AddedToken token = make_added(id.get<std::int64_t>(), Json(content), what);
    const bool known = std::any_of(config.added.begin(), config.added.end(),
                                   [&token](const AddedToken& other) { return other.id == token.id; });
    if (!known) config.added.push_back(token);
  }
}

}  // namespace

std::optional<std::string> token_content(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object()) {
    const auto content = value.find("content");
    if (content != value.end() && content->is_string()) return content->get<std::string>();
  }
  return std::nullopt;
}

std::vector<AddedToken> parse_added_tokens(const Json& list, const std::string& what) {
  if (!list.is_array()) fail(what, "\"added_tokens\" must be a list");
  std::vector<AddedToken> tokens;
  for (const auto& entry : list) {
    if (!entry.is_object() || !entry.contains("id") || !entry["id"].is_number_integer()) {
      fail(what, "an entry of \"added_tokens\" has no id");
    }
    tokens.push_back(make_added(entry["id"].get<std::int64_t>(), entry, what));
  }
  return tokens;
}

TokenizerConfig read_tokenizer_config(const std::string& folder) {
  TokenizerConfig config;
  const fs::path base_path(folder);
  std::error_code ignored;
  if (fs::exists(base_path / "tokenizer_config.json", ignored)) {
    read_config((base_path / "tokenizer_config.json").string(), config);
  }
  if (fs::exists(base_path / "added_tokens.json", ignored)) {
    read_added_tokens_file((base_path / "added_tokens.json").string(), config);
  }
  std::stable_sort(config.added.begin(), config.added.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return config;
}

}  // namespace atelier::text
