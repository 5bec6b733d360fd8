#include "cli/chat_driver.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "cli/generate_records.h"
#include "cli/validators.h"

namespace atelier::cli {

using base::Error;
using base::ExitCode;
using base::Json;
using pipelines::ChatReply;
using pipelines::GenerationRequest;

ChatDriver::ChatDriver(std::shared_ptr<const pipelines::TextModel> model,
                       std::shared_ptr<const pipelines::TextModel> draft, const ChatOptions& options,
                       pipelines::Variant variant, SafetyGate safety, std::uint64_t first_seed)
    : model_(std::move(model)),
      draft_(std::move(draft)),
      options_(options),
      variant_(variant),
      safety_(std::move(safety)),
      next_seed_(first_seed),
      tools_(read_tools(options.variants)),
      translation_(translation_of(options.variants)),
      session_(model_) {
  load({}, "session", /*keep_given=*/true);
}

void ChatDriver::load(const text::SessionData& data, const std::string& what, bool keep_given) {
  apply_session_options(options_.generation, data.options,
                        [&](const std::string& name) { return keep_given && options_.given(name); }, what);
  session_.set_messages(data.messages);
  if (!options_.system.empty())
    session_.set_system(options_.system);
  else if (variant_ == pipelines::Variant::medgemma && session_.system().empty())
    session_.set_system(std::string(pipelines::medgemma_system));
}

Json ChatDriver::session_json() const {
  return {{"messages", session_.messages()}, {"options", session_options(options_.generation)}};
}

void ChatDriver::set_option(const std::string& name, const std::string& value) {
  std::string key = name;
  std::replace(key.begin(), key.end(), '-', '_');
  GenerationFlags changed = options_.generation;
  CLI::App app;
  add_generation_flags(app, changed);
  harden(app);
  apply_job(app, Json{{key, value}});
  options_.generation = std::move(changed);
}

void ChatDriver::add_user(const std::string& text) {
  if (translation_)  // every text is translated for itself
    session_.set_messages(Json::array({translation_message(*translation_, text, *model_->chat_template)}));
  else
    session_.add({{"role", "user"}, {"content", text}});
}

void ChatDriver::add_result(const std::string& content) {
  const Json& messages = session_.messages();
  std::size_t answered = 0, at = messages.size();
  while (at > 0 && messages[at - 1]["role"] == "tool") --at, ++answered;
  const bool called = at > 0 && messages[at - 1].contains("tool_calls");
  if (!called || answered >= messages[at - 1]["tool_calls"].size())
    throw Error(ExitCode::data, "the model has called no function");
  Json message = {{"role", "tool"}, {"name", messages[at - 1]["tool_calls"][answered]["function"]["name"]}};
  try {
    message["content"] = base::parse_json(content, "result");
  } catch (const Error&) {
    message["content"] = content;
  }
  session_.add(std::move(message));
}

pipelines::PromptOptions ChatDriver::prompt_options() const {
  pipelines::PromptOptions p;
  p.mode = pipelines::PromptMode::chat;
  p.special = options_.special;
  p.max_tokens = options_.generation.max_tokens;
  p.truncation = truncation_of(options_.generation);
  p.tools = tools_;
  return p;
}

GenerationRequest ChatDriver::request(const std::function<void(std::string_view)>& on_text) {
  GenerationRequest r;
  r.seed = next_seed_++;
  r.max_tokens = options_.generation.max_tokens;
  r.sampling = sampling_of(options_.generation, variant_);
  r.stop_texts = options_.generation.stop;
  r.logprobs = options_.logprobs;
  r.deadline_seconds = options_.deadline;
  r.speculation = speculation_of(options_.decoding, draft_);
  r.tag = replies_++;
  if (!safety_.active()) r.on_text = on_text;
  options_.common.record->seeds.push_back(r.seed);
  return r;
}

std::string ChatDriver::last_user_text() const {
  const Json& messages = session_.messages();
  for (auto it = messages.rbegin(); it != messages.rend(); ++it)
    if ((*it)["role"] == "user" && (*it)["content"].is_string()) return (*it)["content"].get<std::string>();
  return {};
}

Json ChatDriver::record_of(const ChatReply& reply, const Json& ratings) const {
  Json extras = Json::object();
  if (reply.message.contains("tool_calls")) extras["tool_calls"] = reply.message["tool_calls"];
  if (safety_.active()) extras["safety_ratings"] = ratings;
  Json record = generation_record(*model_, nullptr, reply.request.tag, reply.request, reply.result, reply.truncated, extras);
  record["usage"]["cached_tokens"] = reply.result.prompt_tokens - reply.result.prefilled_tokens;
  if (reply.forgotten > 0) record["usage"]["forgotten_turns"] = reply.forgotten;
  return record;
}

ChatDriver::Answer ChatDriver::blocked_answer(ChatReply reply, const Json& ratings) {
  session_.undo();
  reply.message = Json::object();
  reply.result.finish_reason = pipelines::FinishReason::safety;
  reply.result.text.clear();
  reply.result.token_ids.clear();
  reply.result.logprobs.clear();
  return {.record = record_of(reply, ratings), .text = {}, .blocked = true};
}

ChatDriver::Answer ChatDriver::answer(const std::function<void(std::string_view)>& on_text) {
  const std::string prompt = safety_.active() ? last_user_text() : std::string();
  Json ratings = Json::array();
  if (!safety_.passes_prompt(prompt, &ratings)) {
    ChatReply nothing;
    nothing.request = request({});
    return blocked_answer(std::move(nothing), ratings);
  }
  GenerationRequest how = request(on_text);
  const bool streamed = static_cast<bool>(how.on_text) && tools_.is_null();
  ChatReply reply = session_.answer(std::move(how), prompt_options());
  last_ = reply.result;
  if (reply.forgotten > 0)
    base::log_info(fmt::format("the context is full: {} oldest turn{} forgotten", reply.forgotten,
                               reply.forgotten == 1 ? " was" : "s were"));
  if (!safety_.passes_reply(prompt, reply.result.text, &ratings)) return blocked_answer(std::move(reply), ratings);

  Answer answer{.record = record_of(reply, ratings), .text = reply.result.text};
  answer.stopped = reply.stopped;
  answer.streamed = streamed;
  if (reply.message.contains("tool_calls")) {
    if (!answer.text.empty() && !answer.text.ends_with('\n')) answer.text += '\n';
    for (const Json& call : reply.message["tool_calls"]) answer.text += base::dump_json(call["function"]) + "\n";
  }
  return answer;
}

std::string ChatDriver::status() const {
  const auto rate = [](std::int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0;
  };
  const auto used = last_.prompt_tokens + static_cast<std::int64_t>(last_.token_ids.size());
  return fmt::format(
      "prompt {} tokens, {} of them new in {:.2f} s; reply {} tokens at {:.1f} tok/s; context {} of {}{}",
      last_.prompt_tokens, last_.prefilled_tokens, last_.prefill_seconds, last_.token_ids.size(),
      rate(std::max<std::int64_t>(0, last_.decoded_tokens - 1), last_.decode_seconds), used, model_->context,
      session_.forgotten_turns() > 0 ? fmt::format(", {} turns forgotten", session_.forgotten_turns()) : std::string());
}

}  // namespace atelier::cli
