#include "text/messages.h"

#include <doctest/doctest.h>

#include "support/errors.h"

using namespace atelier;
using base::Json;
using test::error_of;

namespace {

Json message(const char* role, const Json& content) { return {{"role", role}, {"content", content}}; }

std::string refused(const Json& messages) {
  return error_of(base::ExitCode::data, [&] { text::check_messages(messages, "s.json"); });
}

}  // namespace

TEST_CASE("one form for every way of saying it") {
  const Json checked = text::check_messages(
      {message("developer", "be kind"), message("user", Json::array({{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}})),
       message("assistant", "c"), message("user", "d")},
      "s");
  CHECK(checked == Json::array({message("system", "be kind"), message("user", "ab"), message("model", "c"), message("user", "d")}));
  CHECK(text::check_messages(Json::array(), "s").empty());
}

TEST_CASE("calls and their results") {
  const Json call = {{"id", "1"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", "{\"a\": [1, 2]}"}}}};
  const Json answer = {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", {call}}};
  const Json checked = text::check_messages({message("user", "go"), answer, {{"role", "tool"}, {"name", "f"}, {"content", {{"n", 3}}}}}, "s");
  CHECK(checked[1]["content"] == "");
  CHECK(checked[1]["tool_calls"][0]["function"]["arguments"] == Json{{"a", {1, 2}}});
  CHECK(checked[2]["content"] == Json{{"n", 3}});
  const Json bare = {{"role", "model"}, {"tool_calls", {{{"name", "f"}}}}};
  CHECK(text::check_messages({message("user", "go"), bare}, "s")[1]["tool_calls"][0]["function"]["arguments"] == Json::object());
}

TEST_CASE("what is wrong is named, with the message's number") {
  CHECK(refused(3) == "s.json: messages must be a list");
  CHECK(refused(Json::array({"x"})) == "s.json: message 1: not an object");
  CHECK(refused(Json::array({{{"content", "x"}}})) == "s.json: message 1: no \"role\"");
  CHECK(refused(Json::array({message("usr", "x")})) ==
        "s.json: message 1: unknown role \"usr\"; the roles are user, model (assistant), system and tool");
  CHECK(refused({message("user", "a"), message("user", "b")}) == "s.json: message 2: two user turns in a row");
  CHECK(refused({message("user", "a"), message("model", "b"), message("assistant", "b")}) ==
        "s.json: message 3: two model turns in a row");
  CHECK(refused(Json::array({message("model", "a")})) == "s.json: message 1: the first turn must be the user's");
  CHECK(refused({message("user", "a"), message("system", "b")}) ==
        "s.json: message 2: a system message can only be the first one");
  CHECK(refused(Json::array({{{"role", "user"}}})) == "s.json: message 1: no \"content\"");
  CHECK(refused(Json::array({message("user", 3)})) == "s.json: message 1: \"content\" must be a text");
  CHECK(refused(Json::array({message("user", Json::array({{{"type", "image"}}}))})) ==
        "s.json: message 1: \"content\" has a part that is not a text");
  CHECK(refused({message("user", "a"), message("tool", "b")}) == "s.json: message 2: a tool message must follow a call");
  const auto with_call = [](const Json& call) { return Json::array({message("user", "a"), {{"role", "model"}, {"tool_calls", Json::array({call})}}}); };
  CHECK(refused(with_call(1)) == "s.json: message 2: a call is not an object");
  CHECK(refused(with_call({{"function", Json::object()}})) == "s.json: message 2: a call has no \"name\"");
  CHECK(refused(with_call({{"name", "f"}, {"arguments", "{"}})).starts_with("s.json: message 2: the arguments of \"f\" are not JSON: "));
  CHECK(refused(with_call({{"name", "f"}, {"arguments", "[]"}})) == "s.json: message 2: the arguments of a call must be an object");
}

TEST_CASE("session files") {
  const Json messages = Json::array({message("user", "a")});
  CHECK(text::check_session(messages, "s").messages == messages);
  const auto session = text::check_session({{"messages", messages}, {"options", {{"top_k", 3}}}}, "s");
  CHECK(session.options == Json{{"top_k", 3}});
  const auto bad = [](const Json& value) { return error_of(base::ExitCode::data, [&] { text::check_session(value, "s"); }); };
  CHECK(bad("x") == "s: expected a list of messages, or an object with \"messages\"");
  CHECK(bad(Json::object()) == "s: expected a list of messages, or an object with \"messages\"");
  CHECK(bad({{"messages", messages}, {"options", 3}}) == "s: \"options\" must be an object");
}
