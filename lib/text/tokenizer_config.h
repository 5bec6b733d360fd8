#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace atelier::text {

struct AddedToken {
  std::int64_t id = 0;
  std::string content;
  bool special = false;
};

/// What `tokenizer_config.json` and `added_tokens.json` of a Hugging Face folder add to a vocabulary.
struct TokenizerConfig {
  std::vector<AddedToken> added;           ///< by id
  std::vector<std::string> special_names;  ///< every value of *_token, additional_special_tokens, extra_special_tokens
  std::map<std::string, std::string> roles;  ///< "bos_token" -> "<bos>" ...
};

/// Both files are optional. Error(data): malformed.
TokenizerConfig read_tokenizer_config(const std::string& folder);

/// The spelling of a token that is written as a string or as {"content": ...}; nothing for anything else.
std::optional<std::string> token_content(const base::Json& value);

/// Entries of an `added_tokens` list ([{id, content, special}]). Error(data).
std::vector<AddedToken> parse_added_tokens(const base::Json& list, const std::string& what);

}  // namespace atelier::text
