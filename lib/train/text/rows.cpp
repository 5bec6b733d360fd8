#include "train/text/rows.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "text/conversation.h"
#include "text/function_calls.h"
#include "text/messages.h"
#include "text/utf8.h"

namespace atelier::train::text_data {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

[[noreturn]] void bad(const std::string& where, const std::string& why, const std::string& hint = {}) {
  throw Error(ExitCode::data, where + ": " + why, hint);
}

RowKind kind_of(const Json& row, const std::string& where) {
  if (!row.is_object()) bad(where, "a row is a JSON object");
  std::vector<RowKind> kinds;
  if (row.contains("text")) kinds.push_back(RowKind::text);
  if (row.contains("prompt") || row.contains("completion")) kinds.push_back(RowKind::completion);
  if (row.contains("messages")) kinds.push_back(RowKind::messages);
  if (kinds.size() == 1) return kinds.front();
  const std::string hint = "a row is {\"text\"}, {\"prompt\",\"completion\"} or {\"messages\",\"tools\"?}";
  if (kinds.empty()) bad(where, "no \"text\", no \"prompt\" and \"completion\", no \"messages\"", hint);
  bad(where, fmt::format("both {} and {}", row_kind_name(kinds[0]), row_kind_name(kinds[1])), hint);
}

std::string text_of(const Json& row, const char* key, const std::string& where) {
  const auto value = row.find(key);
  if (value == row.end()) bad(where, fmt::format("no \"{}\"", key));
  if (!value->is_string()) bad(where, fmt::format("\"{}\" must be a text", key));
  std::string found = value->get<std::string>();
  if (found.find('\0') != std::string::npos) bad(where, fmt::format("\"{}\" holds a NUL character", key));
  if (found.find_first_not_of(" \t\r\n") == std::string::npos) bad(where, fmt::format("\"{}\" is empty", key));
  return found;
}

void append(Example& example, const std::vector<text::TokenId>& ids, bool supervised) {
  example.tokens.insert(example.tokens.end(), ids.begin(), ids.end());
  example.supervised.resize(example.tokens.size(), supervised);
}

Example begun(const text::Tokenizer& tokenizer) { return {{tokenizer.bos()}, {false}, 0, 0}; }

void finish_text(Example& example, const text::Tokenizer& tokenizer) {
  append(example, {tokenizer.eos()}, true);
  example.end_of_texts = 1;
}

/// Error(data) of the parts below, with the row's place before it.
template <class Action>
auto at_row(const std::string& where, const Action& action) {
  try {
    return action();
  } catch (const Error& error) {
    if (error.code() != ExitCode::data && error.code() != ExitCode::unavailable) throw;
    if (std::string_view(error.what()).starts_with(where)) throw;
    throw Error(ExitCode::data, where + ": " + error.what(), error.hint());
  }
}

}  // namespace

std::string_view row_kind_name(RowKind kind) {
  switch (kind) {
    case RowKind::text: return "text";
    case RowKind::completion: return "prompt/completion";
    case RowKind::messages: return "messages";
  }
  return "";
}

RowReader::RowReader(RowOptions options) : options_(std::move(options)) {}

Example RowReader::read(std::string_view line, const std::string& where) {
  if (!text::is_utf8(line)) bad(where, "not valid UTF-8");
  const Json row = base::parse_json(line, where);
  const RowKind kind = kind_of(row, where);
  if (!kind_) {
    kind_ = kind;
    first_where_ = where;
  }
  if (kind != *kind_)
    bad(where,
        fmt::format("a {} row, but the first row ({}) is a {} row", row_kind_name(kind), first_where_,
                    row_kind_name(*kind_)),
        "all rows of a file are of one kind");
  return encode(row, kind, where);
}

Example RowReader::encode(const Json& row, RowKind kind, const std::string& where) const {
  Example example = kind == RowKind::text         ? of_text(row, where)
                    : kind == RowKind::completion ? of_completion(row, where)
                                                  : of_messages(row, where);
  example.supervised.front() = false;
  return example;
}

Example RowReader::of_text(const Json& row, const std::string& where) const {
  const text::Tokenizer& tokenizer = *options_.tokenizer;
  std::vector<text::TokenId> ids = tokenizer.encode(text_of(row, "text", where), options_.special);
  if (!ids.empty() && ids.front() == tokenizer.bos()) ids.erase(ids.begin());
  if (!ids.empty() && ids.back() == tokenizer.eos()) ids.pop_back();
  Example example = begun(tokenizer);
  append(example, ids, true);
  finish_text(example, tokenizer);
  if (const auto end = tokenizer.find("<end_of_turn>")) example.end_of_turns = std::count(ids.begin(), ids.end(), *end);
  return example;
}

Example RowReader::of_completion(const Json& row, const std::string& where) const {
  const text::Tokenizer& tokenizer = *options_.tokenizer;
  Example example = begun(tokenizer);
  const std::string prompt = text_of(row, "prompt", where), completion = text_of(row, "completion", where);
  append(example, tokenizer.encode(prompt), !options_.mask_prompt);
  append(example, tokenizer.encode(completion), true);
  finish_text(example, tokenizer);
  return example;
}

Example RowReader::of_messages(const Json& row, const std::string& where) const {
  const Json messages = text::check_messages(row["messages"], where);
  if (messages.empty()) bad(where, "\"messages\" is empty");
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Json& message = messages[i];
    const bool calls = message.contains("tool_calls") && !message["tool_calls"].empty();
    const Json& content = message["content"];
    if (message["role"] == "model" && !calls &&
        content.get_ref<const std::string&>().find_first_not_of(" \t\r\n") == std::string::npos)
      bad(where, fmt::format("message {}: the model's turn is empty", i + 1));
  }
  if (messages.back()["role"] != "model") bad(where, "the last message is not the model's: nobody answers it");
  Json tools;
  if (row.contains("tools") && !row["tools"].is_null()) tools = text::check_tools(row["tools"], where);
  auto taught = at_row(
      where, [&] { return text::teach_conversation({*options_.chat_template, *options_.tokenizer}, messages, tools); });
  Example example{std::move(taught.ids), std::move(taught.supervised), 0, 0};
  const auto end = options_.tokenizer->find("<end_of_turn>");
  for (std::size_t i = 0; i < example.tokens.size(); ++i) {
    if (!example.supervised[i]) continue;
    if (end && example.tokens[i] == *end) ++example.end_of_turns;
    if (example.tokens[i] == options_.tokenizer->eos()) ++example.end_of_texts;
  }
  if (!options_.mask_prompt) std::fill(example.supervised.begin(), example.supervised.end(), true);
  return example;
}

}  // namespace atelier::train::text_data
