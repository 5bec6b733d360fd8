#pragma once

#include "cli/chat_options.h"

namespace atelier::cli {

/// gemma-chat: a conversation on a terminal or through a pipe, one answer to a given history, a batch of histories, or a plan.
/// Returns the exit code.
int run_chat(const ChatOptions& options);

}  // namespace atelier::cli
