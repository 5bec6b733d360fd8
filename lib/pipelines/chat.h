#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/json.h"
#include "pipelines/conversation_cache.h"
#include "pipelines/generation.h"
#include "pipelines/prompt.h"

namespace atelier::pipelines {

/// What came of one answer.
struct ChatReply {
  GenerationRequest request;  ///< as it was computed, with its prompt
  GenerationResult result;
  base::Json message;           ///< the model's: content, and tool_calls where the model called functions
  std::int64_t forgotten = 0;   ///< turns that left the context before this answer
  std::int64_t truncated = 0;   ///< tokens cut from the user's text
  bool stopped = false;         ///< by a signal; the result has the text that came before it
};

/// A conversation with a model. Holds all messages; of those the model sees the system message and the latest turns that fit
/// its context. A turn is a user's message with what follows it.
class ChatSession {
 public:
  explicit ChatSession(std::shared_ptr<const TextModel> model) : model_(std::move(model)) {}

  const base::Json& messages() const { return messages_; }
  /// In the form of text::check_messages.
  void set_messages(base::Json messages);
  void add(base::Json message);
  /// "" takes it away.
  void set_system(const std::string& text);
  std::string system() const;
  /// Removes the last turn; false where there is none.
  bool undo();
  /// Removes what follows the last user's message, so that answer() answers it again; false where there is none.
  bool take_back_reply();
  bool awaits_answer() const;  ///< the last message is the user's or a tool's

  /// Answers the last message and adds the reply. `request` says how (its prompt, stop ids and cache are filled in here);
  /// `options` how the prompt is built. A stop by SIGINT ends the reply and not the call: what was said by then is the
  /// reply, except that without any the conversation stays as it was. A finite context: turns that do not fit are
  /// forgotten, oldest first, with room for request.max_tokens, up to half of the context. Error(data) where the last turn
  /// alone does not fit, and as build_chat_prompt.
  ChatReply answer(GenerationRequest request, const PromptOptions& options);

  /// Computes the reply's part of the next prompt beforehand. Stops where a signal asks for it.
  void settle(const PromptOptions& options);

  std::int64_t forgotten_turns() const { return forgotten_; }
  std::int64_t context_tokens() const { return cache_->positions(); }  ///< what the cache holds
  std::int64_t cache_bytes() const { return cache_->bytes(); }

 private:
  base::Json visible(std::int64_t skipped_turns) const;
  std::int64_t turns() const;
  Prompt fitting_prompt(PromptOptions options, std::int64_t room);

  std::shared_ptr<const TextModel> model_;
  base::Json messages_ = base::Json::array();
  std::int64_t forgotten_ = 0;  ///< turns that the model no longer sees
  std::shared_ptr<ConversationCache> cache_ = std::make_shared<ConversationCache>();
  std::shared_ptr<const TextModel> draft_;  ///< of the latest request, or null
  std::shared_ptr<ConversationCache> draft_cache_ = std::make_shared<ConversationCache>();
};

}  // namespace atelier::pipelines
