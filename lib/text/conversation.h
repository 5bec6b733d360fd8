#pragma once

#include <cstddef>
#include <vector>

#include "base/json.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace atelier::text {

/// Who renders and encodes a conversation. Both outlive this.
struct ConversationContext {
  const ChatTemplate& chat_template;
  const Tokenizer& tokenizer;
};

/// Messages in the form of check_messages, through the template. A system message goes before the first user's text where
/// the template knows no such role, as Gemma 3's does. With `tools` (as check_tools gives them; null or empty: none) a
/// template that knows none is replaced by FunctionGemma's. `open_reply`: the text ends where the model's turn begins.
/// Error(data) where the template refuses the messages; Error(unavailable) where the vocabulary has no pieces for calls.
std::vector<Segment> render_conversation(const ConversationContext& context, const base::Json& messages,
                                         const base::Json& tools, bool open_reply);

/// A conversation to learn from.
struct TaughtConversation {
  std::vector<TokenId> ids;      ///< with BOS, once
  std::vector<bool> supervised;  ///< what the model itself says, its end of turn included
  std::size_t replies = 0;       ///< the model's turns
};

/// The model's turns are found by rendering the conversation up to each of them: no template has to mark them. Of a turn
/// what follows its last control token (a newline) is not supervised. A model's turn that is cut by a function's response is
/// supervised up to the mark that opens the response, at which generation stops.
/// Error(data): the template refuses the messages, changes earlier turns when later ones follow, or there is no turn of
/// the model's.
TaughtConversation teach_conversation(const ConversationContext& context, const base::Json& messages,
                                      const base::Json& tools);

}  // namespace atelier::text
