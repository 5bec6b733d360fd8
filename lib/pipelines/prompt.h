#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "pipelines/text_model.h"

namespace atelier::pipelines {

enum class PromptMode { automatic, raw, chat };
enum class Truncation { none, head, middle, tail };

struct PromptOptions {
  PromptMode mode = PromptMode::automatic;  ///< automatic: chat for an instruction-tuned model, raw for a base model
  std::string system;    ///< chat only; folded into the first user turn where the template knows no such role
  bool special = false;  ///< control tokens spelled in the text are control tokens
  Truncation truncation = Truncation::none;  ///< which end of the user's text gives way when it is too long
  std::int64_t max_tokens = 256;             ///< what a truncated prompt leaves room for, up to half of the context
  base::Json tools;        ///< functions that the model may call, as text::check_tools gives them; null: none
  bool unlimited = false;  ///< a prompt longer than the context is no error
  bool open_reply = true;  ///< the prompt ends where the model's turn begins
};

struct Prompt {
  std::vector<text::TokenId> ids;  ///< with BOS
  std::int64_t truncated = 0;      ///< tokens cut
  bool chat = false;
};

bool uses_chat(const TextModel& model, PromptMode mode);

/// From one text. Error(data): empty, or longer than the context without truncation; Error(usage): a system text in raw mode.
Prompt build_prompt(const TextModel& model, const std::string& text, const PromptOptions& options);

/// From a list of messages [{"role", "content"}], always in chat mode. With tools, a folder whose template knows none gets
/// FunctionGemma's. Error(data) where the template refuses the messages; Error(unavailable) where the model's vocabulary has no
/// pieces for function calls.
Prompt build_chat_prompt(const TextModel& model, const base::Json& messages, const PromptOptions& options);

}  // namespace atelier::pipelines
