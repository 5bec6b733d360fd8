#include "pipelines/chat.h"

#include <algorithm>
#include <csignal>
#include <iterator>

#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"
#include "text/function_calls.h"

namespace atelier::pipelines {
namespace {

using base::Json;

bool is(const Json& message, const char* role) { return message["role"] == role; }

bool has_tools(const PromptOptions& options) { return options.tools.is_array() && !options.tools.empty(); }

}  // namespace

void ChatSession::set_messages(Json messages) {
  messages_ = std::move(messages);
  forgotten_ = 0;
}

void ChatSession::add(Json message) { messages_.push_back(std::move(message)); }

std::string ChatSession::system() const {
  return !messages_.empty() && is(messages_[0], "system") ? messages_[0]["content"].get<std::string>() : std::string();
}

void ChatSession::set_system(const std::string& text) {
  if (!messages_.empty() && is(messages_[0], "system")) messages_.erase(messages_.begin());
  if (!text.empty()) messages_.insert(messages_.begin(), Json{{"role", "system"}, {"content", text}});
}

bool ChatSession::undo() {
  while (!messages_.empty() && !is(messages_.back(), "system")) {
    const bool user = is(messages_.back(), "user");
    messages_.erase(messages_.end() - 1);
    if (!user) continue;
    forgotten_ = std::min(forgotten_, std::max<std::int64_t>(0, turns() - 1));
    return true;
  }
  return false;
}

bool ChatSession::take_back_reply() {
  const bool any = std::any_of(messages_.begin(), messages_.end(), [](const Json& m) { return is(m, "user"); });
  while (any && !is(messages_.back(), "user")) messages_.erase(messages_.end() - 1);
  return any;
}

bool ChatSession::awaits_answer() const {
  return !messages_.empty() && (is(messages_.back(), "user") || is(messages_.back(), "tool"));
}

std::int64_t ChatSession::turns() const {
  return std::count_if(messages_.begin(), messages_.end(), [](const Json& m) { return is(m, "user"); });
}

/// The system message, and all turns but the first ones.
Json ChatSession::visible(std::int64_t skipped_turns) const {
  Json seen = Json::array();
  std::int64_t turn = 0;
  for (const Json& message : messages_) {
    if (is(message, "user")) ++turn;
    if (turn == 0 || turn > skipped_turns) seen.push_back(message);
  }
  return seen;
}

Prompt ChatSession::fitting_prompt(PromptOptions options, std::int64_t room) {
  const std::int64_t limit = model_->context - std::min(room, model_->context / 2), last = turns() - 1;
  const Truncation truncation = std::exchange(options.truncation, Truncation::none);
  for (;; ++forgotten_) {
    options.unlimited = forgotten_ < last;
    if (!options.unlimited) options.truncation = truncation;
    Prompt prompt = build_chat_prompt(*model_, visible(forgotten_), options);
    if (!options.unlimited || static_cast<std::int64_t>(prompt.ids.size()) <= limit) return prompt;
  }
}

ChatReply ChatSession::answer(GenerationRequest request, const PromptOptions& options) {
  if (!awaits_answer())
    throw base::Error(base::ExitCode::data, fmt::format("{}: nothing to answer", turns() == 0 ? "there is no user's message" : "the last message is the model's"));
  ChatReply reply;
  const std::int64_t before = forgotten_;
  Prompt prompt = fitting_prompt(options, request.max_tokens);
  reply.forgotten = forgotten_ - before;
  reply.truncated = prompt.truncated;
  draft_ = request.speculation.draft;
  if (draft_) request.speculation.draft_prompt = draft_cache_;
  if (reply.forgotten > 0) cache_->allow_cut(), draft_cache_->allow_cut();
  request.prompt = std::move(prompt.ids);
  request.stop_ids = stop_ids_of(*model_, /*chat=*/true, has_tools(options));
  request.shared = cache_;

  std::string said;
  const auto listener = request.on_text;
  request.on_text = [&](std::string_view part) {
    said += part;
    if (listener && !has_tools(options)) listener(part);  // calls are shown when they are read
  };
  try {
    reply.result = generate_one(*model_, request);
    if (reply.result.failure) throw base::Error(*reply.result.failure);
  } catch (const base::Stopped&) {
    if (base::stop_signal() != SIGINT) throw;
    reply.stopped = true;
    reply.result.text = said;
    reply.result.prompt_tokens = static_cast<std::int64_t>(request.prompt.size());
  }
  request.on_text = listener;
  reply.request = std::move(request);
  reply.message = {{"role", "model"}, {"content", reply.result.text}};
  if (has_tools(options) && !reply.stopped) {
    auto parsed = text::parse_function_calls(*model_->tokenizer, reply.result.token_ids);
    for (const std::string& bad : parsed.bad) parsed.text += bad;
    reply.result.text = parsed.text;
    reply.message["content"] = parsed.text;
    if (!parsed.calls.empty()) reply.message["tool_calls"] = parsed.calls;
  }
  if (!reply.stopped || !said.empty()) add(reply.message);
  return reply;
}

void ChatSession::settle(const PromptOptions& options) {
  if (messages_.empty() || !is(messages_.back(), "model")) return;
  PromptOptions whole = options;
  whole.unlimited = true;
  whole.open_reply = false;
  whole.truncation = Truncation::none;
  const Prompt prompt = build_chat_prompt(*model_, visible(forgotten_), whole);
  if (static_cast<std::int64_t>(prompt.ids.size()) >= model_->context) return;
  try {
    cache_->settle(*model_, prompt.ids);
    if (draft_ && std::ssize(prompt.ids) < draft_->context) draft_cache_->settle(*draft_, prompt.ids);
  } catch (const base::Stopped&) {
  }
}

}  // namespace atelier::pipelines
