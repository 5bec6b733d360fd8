// A1111's prompt language. The expected parts are what modules/prompt_parser.py of A1111 gives for balanced prompts.
#include "text/weighted_prompt.h"

#include "text/prompt_chunks.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using text::LoraTag;
using text::PromptPart;
using text::TokenId;

std::vector<PromptPart> parse(const std::string& prompt, std::size_t warnings = 0) {
  std::vector<std::string> said;
  auto parts = text::parse_emphasis(prompt, said);
  CHECK(said.size() == warnings);
  return parts;
}

/// "text|weight" of each part, weights to six places.
std::string shown(const std::vector<PromptPart>& parts) {
  std::string line;
  for (const PromptPart& part : parts) {
    char weight[32];
    std::snprintf(weight, sizeof weight, "%.6g", part.weight);
    line += part.chunk_break ? "<BREAK>" : "[" + part.text + "|" + weight + "]";
  }
  return line;
}

}  // namespace

TEST_CASE("weights as in A1111") {
  CHECK(shown(parse("normal text")) == "[normal text|1]");
  CHECK(shown(parse("an (important) word")) == "[an |1][important|1.1][ word|1]");
  CHECK(shown(parse("(literal\\)", 1)) == "[(literal)|1]");
  CHECK(shown(parse("\\(literal\\)")) == "[(literal)|1]");
  CHECK(shown(parse("(unnecessary)(parens)")) == "[unnecessaryparens|1.1]");
  CHECK(shown(parse("a ((house:1.3)) [on] a (hill:0.5), sun, (((sky))).")) ==
        "[a |1][house|1.43][ |1][on|0.909091][ a |1][hill|0.5][, sun, |1][sky|1.331][.|1]");
  CHECK(shown(parse("")) == "");
  CHECK(shown(parse("(a:1.5)(b: 0.25 )(c:-1)(d:+2)")) == "[a|1.5][b|0.25][c|-1][d|2]");
  CHECK(shown(parse("16:9 a:b (c:d)")) == "[16:9 a:b |1][c:d|1.1]");
  CHECK(shown(parse("[a:1.5]")) == "[a:1.5|0.909091]");
  CHECK(shown(parse("(a [b) c]")) == "[a |1.1][b|1][ c|0.909091]");
  CHECK(shown(parse("a\\\\b \\x \\[c\\]")) == "[a\\b x [c]|1]");
  CHECK(shown(parse("(x:1.2.3)")) == "[x:1.2.3|1.1]");
  CHECK(shown(parse("(x:inf)(y:nan)(z:1e1)")) == "[x:infy:nan|1.1][z|10]");
}

TEST_CASE("brackets without a partner are text, with a warning for each") {
  CHECK(shown(parse("(a", 1)) == "[(a|1]");
  CHECK(shown(parse("a)", 1)) == "[a)|1]");
  CHECK(shown(parse("[a", 1)) == "[[a|1]");
  CHECK(shown(parse("a]", 1)) == "[a]|1]");
  CHECK(shown(parse("((a)", 1)) == "[(|1][a|1.1]");
  CHECK(shown(parse("(a:1.5", 1)) == "[(a:1.5|1]");
  CHECK(shown(parse("a:1.5)", 1)) == "[a:1.5)|1]");
  CHECK(shown(parse(":) (", 2)) == "[:) (|1]");
  CHECK(parse(std::string(100000, '('), 100000).size() == 1);
}

TEST_CASE("BREAK is a word by itself") {
  CHECK(shown(parse("a BREAK b")) == "[a|1]<BREAK>[b|1]");
  CHECK(shown(parse("BREAKING a_BREAK BREAK2")) == "[BREAKING a_BREAK BREAK2|1]");
  CHECK(shown(parse("BREAK")) == "<BREAK>");
  CHECK(shown(parse("a,BREAK,b\nBREAK\n\nc")) == "[a,|1]<BREAK>[,b|1]<BREAK>[c|1]");
  CHECK(shown(parse("(a BREAK b:1.5)")) == "[a|1.5]<BREAK>[b|1.5]");
}

TEST_CASE("LoRA tags leave the prompt") {
  std::vector<LoraTag> tags;
  CHECK(text::take_lora_tags("a <lora:x:0.5>cat<lora:my file.v2><lora:z:1:0.25> <lora <b>", tags) == "a cat <lora <b>");
  CHECK(tags == std::vector<LoraTag>{{"x", 0.5, 0.5}, {"my file.v2", 1, 1}, {"z", 1, 0.25}});
  using base::ExitCode;
  for (const char* bad : {"<lora:>", "<lora::1>", "<lora:a:b>", "<lora:a:1:2:3>", "<lora:a:>", "<lora:a:nan>"}) {
    CAPTURE(bad);
    CHECK(test::contains(test::error_of(ExitCode::usage, [&] { text::take_lora_tags(bad, tags); }), "<lora:"));
  }
}

TEST_CASE("a prompt of any length becomes chunks of 75 between start and end") {
  const auto tokenizer = text::ClipTokenizer::builtin(false);
  std::string words;
  for (int i = 0; i < 160; ++i) words += "cat ";
  const auto chunks = text::chunk_prompt(*tokenizer, parse(words));
  REQUIRE(chunks.size() == 3);
  for (const auto& chunk : chunks) {
    CHECK(chunk.ids.size() == 77);
    CHECK(chunk.weights.size() == 77);
    CHECK(chunk.ids.front() == tokenizer->bos());
    CHECK(chunk.ids.back() == tokenizer->eos());
    CHECK(!chunk.weighted());
  }
  CHECK(chunks[1].ids[75] == tokenizer->encode("cat")[0]);
  CHECK(chunks[2].ids[10] == tokenizer->encode("cat")[0]);
  CHECK(chunks[2].ids[11] == tokenizer->eos());
  CHECK(text::chunk_prompt(*tokenizer, {}).size() == 1);
  CHECK(text::chunk_prompt(*tokenizer, parse("a BREAK b")).size() == 2);
  const auto zero_padded = text::empty_chunk(*text::ClipTokenizer::builtin(true));
  CHECK(zero_padded.ids[1] == 49407);
  CHECK(zero_padded.ids[2] == 0);
}

TEST_CASE("weights stand at their tokens, and embeddings take their places") {
  const auto tokenizer = text::ClipTokenizer::builtin(false);
  const std::vector<text::EmbeddingName> names = {{"<toy>", 2}, {"Easy", 1}};
  const auto chunks = text::chunk_prompt(*tokenizer, parse("a (<TOY>:2), easy uneasy"), names);
  REQUIRE(chunks.size() == 1);
  const auto& chunk = chunks[0];
  REQUIRE(chunk.embedded.size() == 3);
  CHECK(chunk.embedded[0].position == 2);
  CHECK(chunk.embedded[1].position == 3);
  CHECK(chunk.embedded[1].row == 1);
  CHECK(chunk.embedded[2].position == 5);
  CHECK(chunk.embedded[2].embedding == 1);
  CHECK(chunk.weights[2] == 2);
  CHECK(chunk.weights[4] == 1);
  CHECK(chunk.weighted());
  CHECK(chunk.ids[2] == 49408);
  CHECK(chunk.ids[3] == 49409);
  CHECK(chunk.ids[5] == 49410);
  CHECK(chunk.ids[6] == tokenizer->encode("uneasy")[0]);

  std::string words = "<toy> ";
  for (int i = 0; i < 72; ++i) words += "cat ";
  CHECK(text::chunk_prompt(*tokenizer, parse(words + "<toy>"), names).size() == 2);  // would not fit whole
  CHECK(test::contains(test::error_of(base::ExitCode::data,
                                      [&] {
                                        const std::vector<text::EmbeddingName> long_one = {{"x", 76}};
                                        text::chunk_prompt(*tokenizer, parse("x"), long_one);
                                      }),
                       "76 vectors"));
}
