#include "pipelines/prompt.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "text/conversation.h"

namespace atelier::pipelines {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;
using text::Segment;
using text::TokenId;

std::vector<Segment> render(const TextModel& model, const Json& messages, const PromptOptions& options) {
  return text::render_conversation({*model.chat_template, *model.tokenizer}, messages, options.tools,
                                   options.open_reply);
}

/// Cuts from the tokens marked as content until the prompt fits; the turn markers around them stay.
std::int64_t truncate(std::vector<TokenId>& ids, const std::vector<bool>& content, Truncation how, std::int64_t limit) {
  const std::int64_t excess = static_cast<std::int64_t>(ids.size()) - limit;
  if (excess <= 0) return 0;
  std::vector<std::size_t> cuttable;
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (content[i]) cuttable.push_back(i);
  const std::int64_t available = static_cast<std::int64_t>(cuttable.size());
  if (available < excess)
    throw Error(ExitCode::data, fmt::format("the prompt's template alone exceeds the context of {} tokens", limit));
  std::int64_t first = 0;  // of the excess among the cuttable ones
  if (how == Truncation::middle) first = (available - excess) / 2;
  if (how == Truncation::tail) first = available - excess;
  std::vector<bool> drop(ids.size(), false);
  for (std::int64_t i = first; i < first + excess; ++i) drop[cuttable[i]] = true;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (!drop[i]) ids[kept++] = ids[i];
  ids.resize(kept);
  return excess;
}

Prompt fit(const TextModel& model, std::vector<TokenId> ids, const std::vector<bool>& content,
           const PromptOptions& options) {
  Prompt prompt;
  const auto vocab = model.network->config().vocab_size;
  for (const TokenId id : ids)  // tokenizers can know more pieces than the model, e.g. for images
    if (id < 0 || id >= vocab)
      throw Error(ExitCode::data,
                  fmt::format("the prompt has token {}, the model's vocabulary ends at {}", id, vocab - 1));
  const auto length = static_cast<std::int64_t>(ids.size());
  if (options.truncation != Truncation::none) {
    const std::int64_t room = std::min(options.max_tokens, model.context / 2);
    prompt.truncated = truncate(ids, content, options.truncation, model.context - room);
  } else if (length > model.context && !options.unlimited) {
    throw Error(ExitCode::data, fmt::format("the prompt has {} tokens, the model's context {}", length, model.context),
                "--truncate head|middle|tail cuts the user's text to fit");
  }
  prompt.ids = std::move(ids);
  return prompt;
}

}  // namespace

bool uses_chat(const TextModel& model, PromptMode mode) {
  return mode == PromptMode::chat || (mode == PromptMode::automatic && model.instruction_tuned);
}

Prompt build_chat_prompt(const TextModel& model, const Json& messages, const PromptOptions& options) {
  std::vector<Segment> segments = render(model, messages, options);
  if (options.special)
    for (Segment& segment : segments) segment.trusted = true;
  std::vector<bool> trusted;
  std::vector<TokenId> ids = model.tokenizer->encode(segments, &trusted);
  if (ids.empty() || ids.front() != model.bos) {  // a template that leaves BOS to the tokenizer
    ids.insert(ids.begin(), model.bos);
    trusted.insert(trusted.begin(), true);
  }
  trusted.flip();
  Prompt prompt = fit(model, std::move(ids), trusted, options);
  prompt.chat = true;
  return prompt;
}

Prompt build_prompt(const TextModel& model, const std::string& text, const PromptOptions& options) {
  if (text.empty()) throw Error(ExitCode::data, "the prompt is empty");
  if (uses_chat(model, options.mode)) {
    Json messages = Json::array();
    if (!options.system.empty()) messages.push_back({{"role", "system"}, {"content", options.system}});
    messages.push_back({{"role", "user"}, {"content", text}});
    return build_chat_prompt(model, messages, options);
  }
  if (!options.system.empty()) throw Error(ExitCode::usage, "--system needs --chat: a raw prompt has no turns");
  std::vector<TokenId> ids = model.tokenizer->encode(text, options.special);
  if (ids.empty() || ids.front() != model.bos) ids.insert(ids.begin(), model.bos);
  std::vector<bool> content(ids.size(), true);
  content[0] = false;
  return fit(model, std::move(ids), content, options);
}

}  // namespace atelier::pipelines
