#pragma once

#include <string>

#include "base/json.h"

namespace atelier::text {

/// Checks a conversation and gives it one form: [{"role","content", ...}] with the roles system (first only), user, model and
/// tool. `assistant` is read as model, `developer` as system. A `content` that is a list of text parts is joined; one that
/// is null or absent is "" where the message has tool_calls. `arguments` of a call that are a text are parsed as JSON.
///
/// User and model alternate, the user first; tool messages follow the model message whose calls they answer, and the model
/// may speak after them. `what` names the source in errors; Error(data) names the message: unknown roles, two user turns in
/// a row, a missing or wrong content, NUL or invalid UTF-8 cannot pass.
base::Json check_messages(const base::Json& messages, const std::string& what);

/// A session file: a list of messages, or an object with `messages` and perhaps `options`, an object. Error(data).
struct SessionData {
  base::Json messages = base::Json::array();
  base::Json options = base::Json::object();
};
SessionData check_session(const base::Json& value, const std::string& what);

}  // namespace atelier::text
