#include "text/conversation.h"

#include <algorithm>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "base/error.h"
#include "text/function_calls.h"

namespace atelier::text {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

/// The system text put before the first user text, as Gemma 3's own template does, for templates that know no such role.
Json fold_system(const Json& messages) {
  Json folded = Json::array();
  std::string system;
  for (const Json& message : messages) {
    if (message.value("role", "") == "system" && message.contains("content") && message["content"].is_string()) {
      system += message["content"].get<std::string>() + "\n\n";
    } else if (!system.empty() && message.value("role", "") == "user" && message.contains("content") &&
               message["content"].is_string()) {
      Json user = message;
      user["content"] = system + message["content"].get<std::string>();
      folded.push_back(user);
      system.clear();
    } else {
      folded.push_back(message);
    }
  }
  return folded;
}

bool has_system(const Json& messages) {
  return messages.is_array() && !messages.empty() && messages[0].is_object() &&
         messages[0].value("role", "") == "system";
}

std::vector<TokenId> encoded(const ConversationContext& context, const Json& messages, const Json& tools,
                             bool open_reply) {
  auto ids = context.tokenizer.encode(render_conversation(context, messages, tools, open_reply));
  if (ids.empty() || ids.front() != context.tokenizer.bos()) ids.insert(ids.begin(), context.tokenizer.bos());
  return ids;
}

std::size_t common_prefix(const std::vector<TokenId>& a, const std::vector<TokenId>& b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

Json first_messages(const Json& messages, std::size_t count) {
  Json first = Json::array();
  for (std::size_t i = 0; i < count; ++i) first.push_back(messages[i]);
  return first;
}

/// One past the last token of a reply that is supervised: `begin` its first one, `shared` how far the whole conversation
/// and the one that ends with this reply are the same.
std::size_t end_of_reply(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, std::size_t begin,
                         std::size_t shared, bool whole) {
  if (!whole) return shared + 1;  // the mark at which the two part
  for (std::size_t i = shared; i > begin; --i)
    if (tokenizer.is_control(ids[i - 1])) return i;
  return shared;
}

}  // namespace

std::vector<Segment> render_conversation(const ConversationContext& context, const Json& messages, const Json& tools,
                                         bool open_reply) {
  ChatTemplate::Variables variables;
  variables.tools = tools;
  variables.add_generation_prompt = open_reply;
  variables.bos_token = std::string(context.tokenizer.piece(context.tokenizer.bos()));
  variables.eos_token = std::string(context.tokenizer.piece(context.tokenizer.eos()));
  const ChatTemplate* chosen = &context.chat_template;
  std::shared_ptr<const ChatTemplate> for_functions;
  if (tools.is_array() && !tools.empty() && !chosen->mentions("tools")) {
    if (!knows_function_calls(context.tokenizer))
      throw Error(ExitCode::unavailable, "tools: this model knows no function calls",
                  "FunctionGemma does, and the small model that ships with the project");
    for_functions = ChatTemplate::builtin("functiongemma");
    chosen = for_functions.get();
  }
  if (has_system(messages)) {
    try {
      return chosen->render(messages, variables);
    } catch (const Error&) {
      return chosen->render(fold_system(messages), variables);
    }
  }
  return chosen->render(messages, variables);
}

TaughtConversation teach_conversation(const ConversationContext& context, const Json& messages, const Json& tools) {
  TaughtConversation taught;
  taught.ids = encoded(context, messages, tools, false);
  taught.supervised.assign(taught.ids.size(), false);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].value("role", "") != "model") continue;
    const auto before = encoded(context, first_messages(messages, i), tools, true);
    const auto with = encoded(context, first_messages(messages, i + 1), tools, false);
    const std::size_t begin = before.size(), shared = common_prefix(taught.ids, with);
    const bool whole = shared == with.size();
    const bool parted_at_mark = shared < taught.ids.size() && context.tokenizer.is_control(taught.ids[shared]);
    if (common_prefix(taught.ids, before) != begin || shared < begin || !(whole || parted_at_mark))
      throw Error(ExitCode::data,
                  fmt::format("message {}: the chat template changes earlier turns, so that the model's own words "
                              "cannot be told apart",
                              i + 1));
    const std::size_t end = end_of_reply(context.tokenizer, taught.ids, begin, shared, whole);
    std::fill(taught.supervised.begin() + static_cast<std::ptrdiff_t>(begin),
              taught.supervised.begin() + static_cast<std::ptrdiff_t>(end), true);
    ++taught.replies;
  }
  if (taught.replies == 0) throw Error(ExitCode::data, "no turn of the model's to learn from");
  return taught;
}

}  // namespace atelier::text
