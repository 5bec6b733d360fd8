#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace atelier::text {

/// A reply of a model that calls functions.
struct ParsedReply {
  std::string text;              ///< what stands outside of calls
  base::Json calls;              ///< as OpenAI writes them: [{"type":"function","function":{"name","arguments":{...}}}]
  std::vector<std::string> bad;  ///< calls that could not be read, as they were written; they are part of neither
};

/// Reads FunctionGemma's calls, `<start_function_call>call:NAME{p:<escape>v<escape>,n:3}<end_function_call>`, from a reply's
/// tokens. Marks count only as control tokens: ordinary pieces that spell one are text. Texts lie between <escape> marks;
/// numbers, true, false and null are bare; objects {k:v} and lists [v] nest to any depth up to 64. Keys keep their order.
/// A call that the reply's end cuts off is bad.
ParsedReply parse_function_calls(const Tokenizer& tokenizer, std::span<const TokenId> ids);

/// Whether a vocabulary has the control tokens of FunctionGemma's calls.
bool knows_function_calls(const Tokenizer& tokenizer);

/// Checks a list of functions: [{"type":"function","function":{"name","description","parameters"}}], entries without the
/// outer object, or an object {"tools": [...]}. Returns the list with every entry in the first form. `what` names it in
/// errors; Error(data) names the entry.
base::Json check_tools(const base::Json& value, const std::string& what);

}  // namespace atelier::text
