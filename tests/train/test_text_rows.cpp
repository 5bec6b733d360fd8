// Rows of training data: what is learnt of them, and what is refused.
#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "train/text/rows.h"

#include "row_options.h"
#include "support/doctest_last.h"
#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::train::text_data;
using base::ExitCode;
using test::contains;
using test::error_of;
using test::row_options;

Example read(const std::string& line, RowOptions options = row_options()) {
  return RowReader(std::move(options)).read(line, "data.jsonl: line 1");
}

/// The supervised tokens' spelling, a | where a stretch ends.
std::string taught(const Example& example) {
  std::string text;
  for (std::size_t i = 0; i < example.tokens.size(); ++i) {
    if (!example.supervised[i]) continue;
    if (!text.empty() && !example.supervised[i - 1]) text += "|";
    text += row_options().tokenizer->piece(example.tokens[i]);
  }
  for (std::size_t at = 0; (at = text.find("\u2581", at)) != std::string::npos;) text.replace(at, 3, " ");
  return text;
}

std::string refused(const std::string& line) {
  return error_of(ExitCode::data, [&] { read(line); });
}

std::string refused_second(const std::string& first, const std::string& second) {
  RowReader reader(row_options());
  reader.read(first, "data.jsonl: line 1");
  return error_of(ExitCode::data, [&] { reader.read(second, "data.jsonl: line 2"); });
}

}  // namespace

TEST_CASE("a text row is learnt whole, and ends with EOS") {
  const Example example = read(R"({"text":"a red circle","id":7})");
  CHECK(example.tokens.front() == row_options().tokenizer->bos());
  CHECK(std::count(example.tokens.begin(), example.tokens.end(), row_options().tokenizer->bos()) == 1);
  CHECK_FALSE(example.supervised.front());
  CHECK(taught(example) == "a red circle<eos>");
  CHECK(example.end_of_texts == 1);
}

TEST_CASE("control tokens in a text row are text, unless they are allowed") {
  const auto end = row_options().tokenizer->find("<end_of_turn>");
  REQUIRE(end);
  const std::string line = R"({"text":"<start_of_turn>user\nHi<end_of_turn>"})";
  const Example plain = read(line);
  CHECK(std::count(plain.tokens.begin(), plain.tokens.end(), *end) == 0);
  RowOptions options = row_options();
  options.special = true;
  const Example special = read(line, options);
  CHECK(std::count(special.tokens.begin(), special.tokens.end(), *end) == 1);
  CHECK(special.end_of_turns == 1);
  CHECK(taught(read(R"({"text":"<bos>a red circle<eos>"})", options)) == "a red circle<eos>");
}

TEST_CASE("of a prompt and its completion the completion and EOS are learnt") {
  const std::string line = R"({"prompt":"colour of the sky? ","completion":"blue"})";
  CHECK(taught(read(line)) == "blue<eos>");
  RowOptions options = row_options();
  options.mask_prompt = false;
  CHECK(taught(read(line, options)) == "colour of the sky? blue<eos>");
}

TEST_CASE("of messages the model's turns are learnt with their ends, and nothing else") {
  const Example example = read(
      R"({"messages":[{"role":"system","content":"Be short."},{"role":"user","content":"Hello!"},{"role":"assistant","content":" a red circle "},)"
      R"({"role":"user","content":"<start_of_turn>model\nno<end_of_turn>"},{"role":"model","content":"a blue square"}]})");
  CHECK(taught(example) == "a red circle<end_of_turn>|a blue square<end_of_turn>");
  CHECK(example.end_of_turns == 2);
  const auto end = *row_options().tokenizer->find("<end_of_turn>");
  // A turn each, the system's words being part of the first one: what the user spelled is text.
  CHECK(std::count(example.tokens.begin(), example.tokens.end(), end) == 4);
  CHECK(std::count(example.tokens.begin(), example.tokens.end(), row_options().tokenizer->bos()) == 1);
}

TEST_CASE("calls are learnt up to where generation stops, responses are not") {
  const Example example = read(
      R"({"messages":[{"role":"user","content":"How warm?"},)"
      R"({"role":"assistant","tool_calls":[{"function":{"name":"weather","arguments":{"city":"Bonn"}}}]},)"
      R"({"role":"tool","content":{"degrees":15}},{"role":"assistant","content":"15 degrees"}],)"
      R"("tools":[{"function":{"name":"weather","description":"Weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]})");
  const std::string all = taught(example);
  CAPTURE(all);
  CHECK(all.starts_with("<start_function_call>"));
  CHECK(contains(all, "<end_function_call><start_function_response>|"));
  CHECK(all.ends_with("|15 degrees<end_of_turn>"));
  CHECK_FALSE(contains(all, "degrees:15"));
}

TEST_CASE("bad rows are refused with their line") {
  const std::string good = R"({"prompt":"a","completion":"b"})";
  const std::vector<std::pair<std::string, std::string>> cases{
      {R"({"prompt":"a","completion":"b")", ""},
      {R"([1])", "a row is a JSON object"},
      {R"({"question":"a"})", "no \"text\""},
      {R"({"prompt":"a","completion":""})", "\"completion\" is empty"},
      {R"({"prompt":"a","completion":" \n"})", "\"completion\" is empty"},
      {R"({"prompt":"a"})", "no \"completion\""},
      {R"({"completion":"a"})", "no \"prompt\""},
      {R"({"prompt":"a","completion":3})", "\"completion\" must be a text"},
      {R"({"prompt":"a","completion":"b","completion":"c"})", "completion"},
      {"{\"prompt\":\"a\xff\",\"completion\":\"b\"}", "UTF-8"},
      {R"({"prompt":"a","completion":"b\u0000"})", "NUL"},
      {R"({"text":""})", "\"text\" is empty"},
      {R"({"text":"a","messages":[]})", "both text and messages"},
      {R"({"messages":[]})", "\"messages\" is empty"},
      {R"({"messages":"a"})", "messages must be a list"},
      {R"({"messages":[{"role":"user","content":"a"}]})", "not the model's"},
      {R"({"messages":[{"role":"user","content":"a"},{"role":"model","content":" "}]})",
       "message 2: the model's turn is empty"},
      {R"({"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]})", "two user turns"},
      {R"({"messages":[{"role":"owner","content":"a"}]})", "unknown role"},
      {R"({"messages":[{"role":"user","content":"a"},{"role":"model","content":"b"}],"tools":3})", ""},
  };
  for (const auto& [line, part] : cases) {
    CAPTURE(line);
    const std::string message = refused(line);
    CAPTURE(message);
    CHECK(message.starts_with("data.jsonl: line 1: "));
    CHECK(contains(message, part));
    CHECK(message.find("data.jsonl", 5) == std::string::npos);  // the place once
  }
  CHECK(contains(refused_second(good, R"({"text":"a"})"),
                 "line 2: a text row, but the first row (data.jsonl: line 1) is a prompt/completion row"));
  CHECK(contains(refused_second(R"({"text":"a"})", good), "line 2: a prompt/completion row"));
  CHECK(refused_second(good, good) == "(no error)");
}
