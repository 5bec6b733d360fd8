#include "text/messages.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"

namespace atelier::text {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

class Checker {
 public:
  explicit Checker(std::string what) : what_(std::move(what)) {}

  Json all(const Json& messages) {
    if (!messages.is_array()) throw Error(ExitCode::data, what_ + ": messages must be a list");
    Json checked = Json::array();
    for (std::size_t i = 0; i < messages.size(); ++i) {
      place_ = i + 1;
      Json message = one(messages[i]);
      check_order(message);
      checked.push_back(std::move(message));
    }
    return checked;
  }

 private:
  Error bad(const std::string& why) const {
    return Error(ExitCode::data, fmt::format("{}: message {}: {}", what_, place_, why));
  }

  Json one(const Json& message) {
    if (!message.is_object()) throw bad("not an object");
    if (!message.contains("role") || !message["role"].is_string()) throw bad("no \"role\"");
    Json checked = message;
    const std::string role = role_of(message["role"].get<std::string>());
    checked["role"] = role;
    const bool calls = message.contains("tool_calls") && !message["tool_calls"].is_null();
    if (calls && role != "model") throw bad("only the model's messages can have \"tool_calls\"");
    if (calls) checked["tool_calls"] = calls_of(message["tool_calls"]);
    checked["content"] = content_of(message, role, calls);
    for (const char* key : {"name", "tool_call_id"})
      if (message.contains(key) && !message[key].is_null() && !message[key].is_string())
        throw bad(fmt::format("\"{}\" must be a text", key));
    return checked;
  }

  std::string role_of(const std::string& role) const {
    if (role == "assistant") return "model";
    if (role == "developer") return "system";
    for (const char* known : {"user", "model", "system", "tool"})
      if (role == known) return role;
    throw bad(fmt::format("unknown role {}; the roles are user, model (assistant), system and tool", base::in_quotes(role)));
  }

  Json content_of(const Json& message, const std::string& role, bool calls) const {
    const Json content = message.value("content", Json());
    if (content.is_string()) return content;
    if (content.is_null() && calls) return "";
    if (content.is_null()) throw bad("no \"content\"");
    if (role == "tool" && !content.is_array()) return content;  // a response: an object, a number, ...
    if (!content.is_array()) throw bad("\"content\" must be a text");
    std::string text;
    for (const Json& part : content) {
      if (!part.is_object() || part.value("type", Json()) != "text" || !part.contains("text") || !part["text"].is_string())
        throw bad("\"content\" has a part that is not a text");
      text += part["text"].get<std::string>();
    }
    return text;
  }

  Json calls_of(const Json& calls) const {
    if (!calls.is_array()) throw bad("\"tool_calls\" must be a list");
    Json checked = Json::array();
    for (const Json& call : calls) {
      if (!call.is_object()) throw bad("a call is not an object");
      Json entry = call;
      if (!entry.contains("function")) entry = {{"type", "function"}, {"function", call}};
      Json& function = entry["function"];
      if (!function.is_object() || !function.contains("name") || !function["name"].is_string())
        throw bad("a call has no \"name\"");
      Json arguments = function.value("arguments", Json());
      if (arguments.is_string()) {
        try {
          arguments = base::parse_json(arguments.get_ref<const std::string&>(), "arguments");
        } catch (const Error& error) {
          throw bad(fmt::format("the arguments of {} are not JSON: {}", base::in_quotes(function["name"].get<std::string>()), error.what()));
        }
      }
      if (arguments.is_null()) arguments = Json::object();
      if (!arguments.is_object()) throw bad("the arguments of a call must be an object");
      function["arguments"] = arguments;
      checked.push_back(std::move(entry));
    }
    return checked;
  }

  void check_order(const Json& message) {
    const std::string role = message["role"].get<std::string>();
    if (role == "system") {
      if (place_ != 1) throw bad("a system message can only be the first one");
    } else if (role == "tool") {
      if (last_ != "tool" && !(last_ == "model" && called_)) throw bad("a tool message must follow a call");
    } else if (role == last_) {
      throw bad(fmt::format("two {} turns in a row", role));
    } else if (role == "model" && (last_.empty() || last_ == "system")) {
      throw bad("the first turn must be the user's");
    } else if (role == "user" && last_ == "tool") {
      throw bad("the model has not yet answered the tool message before");
    }
    if (role == "model") called_ = message.contains("tool_calls") && !message["tool_calls"].empty();
    last_ = role;
  }

  std::string what_, last_;
  std::size_t place_ = 0;
  bool called_ = false;
};

}  // namespace

Json check_messages(const Json& messages, const std::string& what) { return Checker(what).all(messages); }

SessionData check_session(const Json& value, const std::string& what) {
  SessionData session;
  if (value.is_array()) {
    session.messages = check_messages(value, what);
    return session;
  }
  if (!value.is_object() || !value.contains("messages"))
    throw Error(ExitCode::data, what + ": expected a list of messages, or an object with \"messages\"");
  session.messages = check_messages(value["messages"], what);
  if (value.contains("options") && !value["options"].is_null()) {
    if (!value["options"].is_object()) throw Error(ExitCode::data, what + ": \"options\" must be an object");
    session.options = value["options"];
  }
  return session;
}

}  // namespace atelier::text
