#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace atelier::train::text_data {

enum class RowKind { text, completion, messages };
std::string_view row_kind_name(RowKind kind);  ///< as the keys of a row: "text", "prompt/completion", "messages"

/// A row of training data as tokens.
struct Example {
  std::vector<text::TokenId> tokens;  ///< with BOS, once
  std::vector<bool> supervised;       ///< which of them are learnt; never the first
  std::int64_t end_of_turns = 0;      ///< supervised <end_of_turn> (or what ends a turn in this template)
  std::int64_t end_of_texts = 0;      ///< supervised EOS
};

struct RowOptions {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;
  bool mask_prompt = true;  ///< false: prompts and the users' turns are learnt, too
  bool special = false;     ///< control tokens spelled in `text` rows are control tokens
};

/// Reads rows of JSON Lines, one object each:
///   {"text"}                     learnt whole; EOS behind it
///   {"prompt", "completion"}     the completion and EOS are learnt
///   {"messages", "tools"?}       the model's turns are learnt, their ends included
/// The first row decides which; other keys are ignored. What a row says never becomes a control token (`special` apart).
class RowReader {
 public:
  explicit RowReader(RowOptions options);

  /// `where` names the row ("data.jsonl: line 3"). Error(data), beginning with it: malformed JSON or UTF-8, a key twice, not
  /// one of these objects, another kind than the first row's, an empty text, prompt or completion, messages that
  /// text::check_messages or the template refuse, no turn of the model's, a last turn that is not the model's.
  Example read(std::string_view line, const std::string& where);

  /// Of the first row; nothing before it.
  std::optional<RowKind> kind() const { return kind_; }

 private:
  Example encode(const base::Json& row, RowKind kind, const std::string& where) const;
  Example of_text(const base::Json& row, const std::string& where) const;
  Example of_completion(const base::Json& row, const std::string& where) const;
  Example of_messages(const base::Json& row, const std::string& where) const;

  RowOptions options_;
  std::optional<RowKind> kind_;
  std::string first_where_;
};

}  // namespace atelier::train::text_data
