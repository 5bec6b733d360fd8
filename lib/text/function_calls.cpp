#include "text/function_calls.h"

#include <algorithm>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "text/utf8.h"

namespace atelier::text {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

constexpr int kMaxDepth = 64;

/// One byte of text, or one control token.
struct Symbol {
  char byte = 0;
  TokenId mark = -1;  ///< a control token's id
};

std::vector<Symbol> symbols_of(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  std::vector<Symbol> symbols;
  for (const TokenId id : ids) {
    if (tokenizer.is_control(id)) {
      symbols.push_back({0, id});
      continue;
    }
    for (const char c : tokenizer.bytes(id)) symbols.push_back({c, -1});
  }
  return symbols;
}

/// The arguments of one call. Every reader returns nothing where the text is not of its form.
class CallReader {
 public:
  CallReader(std::span<const Symbol> symbols, TokenId escape) : symbols_(symbols), escape_(escape) {}

  std::optional<Json> call() {
    skip_blanks();
    for (const char c : std::string_view("call:"))
      if (!take(c)) return std::nullopt;
    const std::string name = bare("{");
    if (name.empty()) return std::nullopt;
    auto arguments = object(0);
    skip_blanks();
    if (!arguments || at_ != symbols_.size()) return std::nullopt;
    return Json{{"type", "function"}, {"function", {{"name", name}, {"arguments", std::move(*arguments)}}}};
  }

 private:
  bool at_end() const { return at_ == symbols_.size(); }
  bool next_is(char c) const { return !at_end() && symbols_[at_].mark < 0 && symbols_[at_].byte == c; }
  bool next_is_escape() const { return !at_end() && symbols_[at_].mark == escape_; }

  bool take(char c) {
    if (!next_is(c)) return false;
    ++at_;
    return true;
  }

  void skip_blanks() {
    while (next_is(' ') || next_is('\n') || next_is('\t')) ++at_;
  }

  /// Text up to one of `ends` or a mark, without blanks around it.
  std::string bare(std::string_view ends) {
    std::string text;
    while (!at_end() && symbols_[at_].mark < 0 && ends.find(symbols_[at_].byte) == std::string_view::npos)
      text += symbols_[at_++].byte;
    const std::size_t first = text.find_first_not_of(" \t\n");
    if (first == std::string::npos) return {};
    return replace_invalid(text.substr(first, text.find_last_not_of(" \t\n") + 1 - first));
  }

  std::optional<std::string> escaped() {
    ++at_;
    std::string text;
    while (!at_end() && symbols_[at_].mark < 0) text += symbols_[at_++].byte;
    if (!next_is_escape()) return std::nullopt;
    ++at_;
    return replace_invalid(text);
  }

  std::optional<Json> object(int depth) {
    if (depth > kMaxDepth || !take('{')) return std::nullopt;
    Json fields = Json::object();
    skip_blanks();
    if (take('}')) return fields;
    for (;;) {
      skip_blanks();
      const auto key = next_is_escape() ? escaped() : std::optional(bare(":,{}[]"));
      if (!key || key->empty() || !take(':')) return std::nullopt;
      auto field = value(depth + 1);
      if (!field) return std::nullopt;
      fields[*key] = std::move(*field);
      skip_blanks();
      if (take('}')) return fields;
      if (!take(',')) return std::nullopt;
    }
  }

  std::optional<Json> list(int depth) {
    if (depth > kMaxDepth || !take('[')) return std::nullopt;
    Json items = Json::array();
    skip_blanks();
    if (take(']')) return items;
    for (;;) {
      auto item = value(depth + 1);
      if (!item) return std::nullopt;
      items.push_back(std::move(*item));
      skip_blanks();
      if (take(']')) return items;
      if (!take(',')) return std::nullopt;
    }
  }

  std::optional<Json> value(int depth) {
    skip_blanks();
    if (next_is_escape()) {
      const auto text = escaped();
      return text ? std::optional<Json>(*text) : std::nullopt;
    }
    if (next_is('{')) return object(depth);
    if (next_is('[')) return list(depth);
    const std::string text = bare(",{}[]");
    if (text.empty()) return std::nullopt;
    // Numbers, true, false and null as JSON writes them; a text whose marks were forgotten is still a text.
    try {
      Json scalar = base::parse_json(text, "value");
      if (scalar.is_number() || scalar.is_boolean() || scalar.is_null()) return scalar;
    } catch (const Error&) {
    }
    return Json(text);
  }

  std::span<const Symbol> symbols_;
  TokenId escape_;
  std::size_t at_ = 0;
};

std::string spelled(const Tokenizer& tokenizer, std::span<const Symbol> symbols) {
  std::string text;
  for (const Symbol& s : symbols) {
    if (s.mark < 0)
      text += s.byte;
    else
      text += tokenizer.piece(s.mark);
  }
  return replace_invalid(text);
}

TokenId id_of(const Tokenizer& tokenizer, std::string_view piece) {
  const auto id = tokenizer.find(piece);
  return id && tokenizer.is_control(*id) ? *id : -2;
}

}  // namespace

bool knows_function_calls(const Tokenizer& tokenizer) {
  for (const char* piece : {"<start_function_declaration>", "<end_function_declaration>", "<start_function_call>",
                            "<end_function_call>", "<escape>"})
    if (id_of(tokenizer, piece) < 0) return false;
  return true;
}

ParsedReply parse_function_calls(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  const TokenId begin = id_of(tokenizer, "<start_function_call>"), end = id_of(tokenizer, "<end_function_call>");
  const std::vector<Symbol> symbols = symbols_of(tokenizer, ids);
  const auto is = [](TokenId id) { return [id](const Symbol& s) { return s.mark == id; }; };
  ParsedReply reply;
  reply.calls = Json::array();
  for (auto at = symbols.begin(); at != symbols.end();) {
    if (at->mark != begin) {
      if (at->mark < 0) reply.text += at->byte;
      ++at;
      continue;
    }
    const auto close = std::find_if(at + 1, symbols.end(), is(end));
    std::optional<Json> call;
    if (close != symbols.end())
      call = CallReader({at + 1, close}, id_of(tokenizer, "<escape>")).call();
    const auto behind = close == symbols.end() ? close : close + 1;
    if (call)
      reply.calls.push_back(std::move(*call));
    else
      reply.bad.push_back(spelled(tokenizer, {at, behind}));
    at = behind;
  }
  reply.text = replace_invalid(reply.text);
  return reply;
}

Json check_tools(const Json& value, const std::string& what) {
  const auto bad = [&](const std::string& why) { return Error(ExitCode::data, fmt::format("{}: {}", what, why)); };
  const Json& list = value.is_object() && value.contains("tools") ? value["tools"] : value;
  if (!list.is_array()) throw bad("expected a list of functions");
  Json tools = Json::array();
  std::set<std::string> names;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::string where = fmt::format("function {}", i + 1);
    if (!list[i].is_object()) throw bad(where + " is not an object");
    if (list[i].contains("type") && list[i]["type"] != "function" && list[i].contains("function"))
      throw bad(where + ": \"type\" is not \"function\"");
    const Json function = list[i].contains("function") ? list[i]["function"] : list[i];
    if (!function.is_object() || !function.contains("name") || !function["name"].is_string() || function["name"] == "")
      throw bad(where + " has no \"name\"");
    const std::string name = function["name"].get<std::string>();
    if (name.find_first_of("{}<>:,\n") != std::string::npos)
      throw bad(fmt::format("{}: the name {} holds a character that calls use", where, base::in_quotes(name)));
    if (!names.insert(name).second) throw bad(fmt::format("the function {} is declared twice", base::in_quotes(name)));
    if (function.contains("description") && !function["description"].is_string())
      throw bad(fmt::format("{}: \"description\" must be a text", name));
    if (function.contains("parameters") && !function["parameters"].is_null() && !function["parameters"].is_object())
      throw bad(fmt::format("{}: \"parameters\" must be an object, a JSON Schema", name));
    tools.push_back({{"type", "function"}, {"function", function}});
  }
  return tools;
}

}  // namespace atelier::text
