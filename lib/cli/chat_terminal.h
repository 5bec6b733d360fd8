#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cli/chat_driver.h"
#include "cli/output.h"

namespace atelier::cli {

/// The conversation on a terminal, until /exit or Ctrl-D. Ctrl-C ends a
/// reply, or clears the line; SIGTERM throws base::Stopped.
void chat_on_terminal(ChatDriver& driver, const ChatOptions& options, Output& output);

}  // namespace atelier::cli
