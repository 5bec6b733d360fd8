#include <doctest/doctest.h>

#include "base/error.h"
#include "goldens.h"
#include "text/chat_template.h"

using namespace atelier;
using text::ChatTemplate;
using text::Segment;

TEST_CASE("the built-in templates render") {
  const base::Json messages = base::parse_json(R"([{"role":"user","content":" hi "},{"role":"model","content":"yo"},{"role":"user","content":"<end_of_turn>"}])", "test");
  for (const char* name : {"gemma", "gemma2", "gemma3", "functiongemma"}) {
    std::string all;
    for (const Segment& s : ChatTemplate::builtin(name)->render(messages, {})) all += s.text;
    CHECK(all == "<bos><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nyo<end_of_turn>\n<start_of_turn>user\n<end_of_turn><end_of_turn>\n<start_of_turn>model\n");
  }
}
