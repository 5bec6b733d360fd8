#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cli/chat_options.h"
#include "pipelines/chat.h"
#include "text/messages.h"

namespace atelier::cli {

/// What gemma-chat answers with, whichever way it was asked: a session with its settings, its seeds, and its safety gate.
class ChatDriver {
 public:
  /// `draft`: of --draft, or null; `first_seed`: reply i of this driver uses first_seed + i.
  ChatDriver(std::shared_ptr<const pipelines::TextModel> model, std::shared_ptr<const pipelines::TextModel> draft,
             const ChatOptions& options, pipelines::Variant variant, SafetyGate safety, std::uint64_t first_seed);

  struct Answer {
    base::Json record;    ///< the contract's
    std::string text;     ///< as it is shown: the reply, and calls, one a line
    bool blocked = false; ///< by a safety policy; prompt and reply are not part of the conversation
    bool stopped = false; ///< by SIGINT
    bool streamed = false;
  };

  void add_user(const std::string& text);
  /// The answer to a call of the model: JSON, or a text.
  void add_result(const std::string& content);
  /// Answers the last message. `on_text` gets the reply as it comes, where nothing has to be checked or read first.
  Answer answer(const std::function<void(std::string_view)>& on_text);
  void settle() { session_.settle(prompt_options()); }

  /// Replaces messages and options; flags given on the command line stay where `keep_given`.
  void load(const text::SessionData& data, const std::string& what, bool keep_given);
  base::Json session_json() const;
  void set_option(const std::string& name, const std::string& value);

  pipelines::ChatSession& session() { return session_; }
  const GenerationFlags& generation() const { return options_.generation; }
  double temperature() const { return sampling_of(options_.generation, variant_).temperature; }
  /// One line about the last reply and the context.
  std::string status() const;

 private:
  pipelines::PromptOptions prompt_options() const;
  pipelines::GenerationRequest request(const std::function<void(std::string_view)>& on_text);
  std::string last_user_text() const;
  base::Json record_of(const pipelines::ChatReply& reply, const base::Json& ratings) const;
  Answer blocked_answer(pipelines::ChatReply reply, const base::Json& ratings);

  std::shared_ptr<const pipelines::TextModel> model_, draft_;
  ChatOptions options_;
  pipelines::Variant variant_;
  SafetyGate safety_;
  std::uint64_t next_seed_;
  std::size_t replies_ = 0;
  base::Json tools_;
  std::optional<text::TranslationPair> translation_;
  pipelines::ChatSession session_;
  pipelines::GenerationResult last_;
};

}  // namespace atelier::cli
