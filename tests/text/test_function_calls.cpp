// FunctionGemma's calls, read from a reply's tokens.
#include "text/function_calls.h"

#include <doctest/doctest.h>

#include "goldens.h"
#include "support/errors.h"
#include "text/chat_template.h"

using namespace atelier;
using base::Json;
using test::error_of;

namespace {

const text::Tokenizer& tokenizer() {
  static const auto opened = text::Tokenizer::open(std::string(ATELIER_MODELS) + "/tiny-gemma");
  return *opened;
}

/// A reply as the model would write it: marks are control tokens.
text::ParsedReply parse(const std::string& reply) {
  return text::parse_function_calls(tokenizer(), tokenizer().encode(reply, /*trusted=*/true));
}

std::string wrapped(const std::string& call) { return "<start_function_call>" + call + "<end_function_call>"; }

Json arguments(const std::string& text) {
  const auto reply = parse(wrapped("call:f" + text));
  CAPTURE(text);
  REQUIRE(reply.calls.size() == 1);
  CHECK(reply.calls[0]["function"]["name"] == "f");
  return reply.calls[0]["function"]["arguments"];
}

}  // namespace

TEST_CASE("arguments of every kind, nested") {
  CHECK(arguments("{}") == Json::object());
  CHECK(arguments("{a:<escape>x, y: {z}<escape>}") == Json{{"a", "x, y: {z}"}});
  CHECK(arguments("{a:1,b:-2.5,c:true,d:false,e:null}") ==
        Json{{"a", 1}, {"b", -2.5}, {"c", true}, {"d", false}, {"e", nullptr}});
  CHECK(arguments("{item:{colour:<escape>red<escape>,at:{x:1,y:2}},list:[1,<escape>a<escape>,[true],{}],empty:[]}") ==
        Json{{"item", {{"colour", "red"}, {"at", {{"x", 1}, {"y", 2}}}}},
             {"list", Json::array({1, "a", Json::array({true}), Json::object()})},
             {"empty", Json::array()}});
  CHECK(arguments("{ a : 1 , b : bare words }") == Json{{"a", 1}, {"b", "bare words"}});
  CHECK(arguments("{a:<escape><escape>}") == Json{{"a", ""}});
}

TEST_CASE("several calls, with text around them") {
  const auto reply = parse("Sure. " + wrapped("call:a{x:1}") + wrapped("call:b{}") + " Done.");
  CHECK(reply.text == "Sure.  Done.");
  CHECK(reply.calls.dump() == R"([{"type":"function","function":{"name":"a","arguments":{"x":1}}},)"
                              R"({"type":"function","function":{"name":"b","arguments":{}}}])");
  CHECK(reply.bad.empty());
  CHECK(parse("Just text.").calls.empty());
}

TEST_CASE("calls that are none are kept as they were written") {
  for (const char* bad : {"call:f{a:1", "call:f", "call:{a:1}", "f{a:1}", "call:f{a}", "call:f{a:}", "call:f{a:1}}",
                          "call:f{a:<escape>x}", "call:f{a:[1}", "call:f{a:1,}", "call:f{a:{b:1}"}) {
    const auto reply = parse("t" + wrapped(bad));
    CAPTURE(bad);
    CHECK(reply.calls.empty());
    REQUIRE(reply.bad.size() == 1);
    CHECK(reply.bad[0] == wrapped(bad));
    CHECK(reply.text == "t");
  }
  const auto cut = parse("<start_function_call>call:f{a:1}");
  CHECK(cut.bad.size() == 1);
  std::string deep = "{a:", close = "}";
  for (int i = 0; i < 200; ++i) deep += "[", close = "]" + close;
  CHECK(parse(wrapped("call:f" + deep + close)).calls.empty());
}

TEST_CASE("marks that are only spelled are text") {
  const auto ids = tokenizer().encode("<start_function_call>call:f{a:1}<end_function_call>");
  const auto reply = text::parse_function_calls(tokenizer(), ids);
  CHECK(reply.calls.empty());
  CHECK(reply.text == "<start_function_call>call:f{a:1}<end_function_call>");
}

TEST_CASE("what the template writes is read back") {
  const Json arguments = {{"flag", true}, {"item", {{"colour", "red"}, {"n", 3}}}, {"names", {"a", "b"}}, {"x", 1.5}};
  const Json messages = {{{"role", "user"}, {"content", "go"}},
                         {{"role", "model"}, {"content", ""}, {"tool_calls", {{{"type", "function"}, {"function", {{"name", "f"}, {"arguments", arguments}}}}}}}};
  text::ChatTemplate::Variables variables;
  variables.add_generation_prompt = false;
  std::vector<text::Segment> segments = text::ChatTemplate::builtin("functiongemma")->render(messages, variables);
  for (auto& segment : segments) segment.trusted = true;
  const auto reply = text::parse_function_calls(tokenizer(), tokenizer().encode(segments));
  REQUIRE(reply.calls.size() == 1);
  CHECK(reply.calls[0]["function"]["arguments"] == arguments);
}

TEST_CASE("declarations are checked") {
  const Json good = {{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", {{"type", "object"}}}}}}};
  CHECK(text::check_tools(good, "t") == good);
  CHECK(text::check_tools({{"tools", good}}, "t") == good);
  CHECK(text::check_tools(Json::array({{{"name", "f"}}}), "t")[0]["function"]["name"] == "f");
  const auto refused = [](const Json& tools) {
    return error_of(base::ExitCode::data, [&] { text::check_tools(tools, "t.json"); });
  };
  CHECK(refused("x") == "t.json: expected a list of functions");
  CHECK(refused(Json::array({1})) == "t.json: function 1 is not an object");
  CHECK(refused(Json::array({{{"type", "function"}, {"function", Json::object()}}})) == "t.json: function 1 has no \"name\"");
  CHECK(refused(Json::array({{{"name", "a{b"}}})) == "t.json: function 1: the name \"a{b\" holds a character that calls use");
  CHECK(refused(Json::array({{{"name", "f"}}, {{"name", "f"}}})) == "t.json: the function \"f\" is declared twice");
  CHECK(refused(Json::array({{{"name", "f"}, {"parameters", 3}}})) == "t.json: f: \"parameters\" must be an object, a JSON Schema");
}
