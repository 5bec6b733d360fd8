// CLIP's tokenizer beside transformers' CLIPTokenizer; tests/data/clip_text comes from scripts/fixtures/clip_text.py.
#include "text/clip_tokenizer.h"

#include <fstream>

#include "base/json.h"
#include "support/scratch.h"
#include "text/clip_tokenizer_files.h"
#include "text/unicode.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using base::Json;
using text::ClipTokenizer;
using text::TokenId;

const std::string folder = std::string(ATELIER_TEST_DATA) + "/clip_text";

const Json& goldens() {
  static const Json json = base::read_json_file(folder + "/tokenizer_goldens.json");
  return json;
}

void compare(const ClipTokenizer& tokenizer, const Json& texts, const Json& ids) {
  REQUIRE(texts.size() >= ids.size());
  REQUIRE(!ids.empty());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    CAPTURE(text);
    CHECK(tokenizer.encode(text) == ids[i].get<std::vector<TokenId>>());
  }
}

}  // namespace

TEST_CASE("the built-in vocabulary gives transformers' ids") {
  CHECK(goldens()["texts"].size() >= 200);
  const auto clip_l = ClipTokenizer::builtin(false);
  compare(*clip_l, goldens()["texts"], goldens()["clip_l"]);
  CHECK(clip_l->size() == 49408);
  CHECK(clip_l->bos() == 49406);
  CHECK(clip_l->eos() == 49407);
  CHECK(clip_l->pad() == 49407);
  CHECK(clip_l->max_length() == 77);
  CHECK(clip_l->piece(320) == "a</w>");
}

TEST_CASE("OpenCLIP's tokenizer pads with an exclamation mark, which is then a token of its own") {
  const auto open_clip = ClipTokenizer::builtin(true);
  CHECK(open_clip->pad() == 0);
  compare(*open_clip, goldens()["texts"], goldens()["open_clip"]);
}

TEST_CASE("the built-in vocabulary as a folder's files is read back as it was") {
  for (const bool zero_pad : {false, true}) {
    CAPTURE(zero_pad);
    const test::Scratch scratch;
    const auto files = text::clip_tokenizer_files(text::builtin_clip_tokenizer(zero_pad));
    CHECK(files.size() == 4);
    for (const auto& [name, bytes] : files) test::put_file(scratch.file(name), bytes);
    const auto read = ClipTokenizer::open(scratch.path());
    compare(*read, goldens()["texts"], goldens()[zero_pad ? "open_clip" : "clip_l"]);
    CHECK(read->size() == 49408);
    CHECK(read->pad() == (zero_pad ? 0 : 49407));
    CHECK(read->max_length() == 77);
  }
}

TEST_CASE("folders: vocab.json with merges.txt, or tokenizer.json with added tokens; unknown characters") {
  compare(*ClipTokenizer::open(folder + "/small"), goldens()["texts"], goldens()["small"]);
  compare(*ClipTokenizer::open(folder + "/json"), goldens()["json_texts"], goldens()["json"]);
}

TEST_CASE("malformed tokenizer folders are refused by name") {
  const test::Scratch scratch;
  const auto open = [&] { ClipTokenizer::open(scratch.path().string()); };
  using base::ExitCode;
  CHECK(test::contains(test::error_of(ExitCode::no_input, open), "no CLIP tokenizer"));
  const std::string vocab = R"({"a": 0, "a</w>": 1, "aa</w>": 2, "<|startoftext|>": 3, "<|endoftext|>": 4})";
  test::put_file(scratch.file("vocab.json"), vocab);
  test::put_file(scratch.file("merges.txt"), "#version: 0.2\na a</w>\n");
  CHECK(ClipTokenizer::open(scratch.path().string())->encode("aa a") == std::vector<TokenId>{2, 1});
  for (const char* merges : {"a b</w>\n", "a\n", "a a</w> a\n", "a a\n", "\xff a\n"}) {
    CAPTURE(merges);
    test::put_file(scratch.file("merges.txt"), merges);
    CHECK(test::contains(test::error_of(ExitCode::data, open), "merges.txt: "));
  }
  test::put_file(scratch.file("merges.txt"), "a a</w>\n");
  for (const char* bad : {"[]", "{}", R"({"a": -1})", R"({"a": 99999999999})", R"({"a": "0"})", R"({"a": 0.5})", "{"}) {
    CAPTURE(bad);
    test::put_file(scratch.file("vocab.json"), bad);
    CHECK(test::contains(test::error_of(ExitCode::data, open), "vocab.json"));
  }
  test::put_file(scratch.file("vocab.json"), R"({"a": 0, "a</w>": 1, "aa</w>": 2, "<|startoftext|>": 3})");
  CHECK(test::contains(test::error_of(ExitCode::data, open), "eos_token"));
  test::put_file(scratch.file("vocab.json"), vocab);
  for (const char* bad : {R"({"model_max_length": 2})", R"({"added_tokens_decoder": {"x": "y"}})",
                          R"({"added_tokens_decoder": {"5": 7}})", R"({"pad_token": "nowhere"})", "[]"}) {
    CAPTURE(bad);
    test::put_file(scratch.file("tokenizer_config.json"), bad);
    CHECK(test::error_of(ExitCode::data, open) != "(no error)");
  }
}

TEST_CASE("long words are quick, and a text has a limit") {
  const auto tokenizer = ClipTokenizer::builtin(false);
  CHECK(tokenizer->encode(std::string(1 << 20, 'a')).size() > 1000);
  CHECK(
      test::contains(test::error_of(base::ExitCode::data, [&] { tokenizer->encode(std::string((1 << 20) + 1, 'a')); }),
                     "at most 1 MiB"));
}

TEST_CASE("NFC composes Hangul, sorts marks and leaves excluded composites apart") {
  CHECK(text::to_nfc(U"\u1112\u1161\u11ab") == U"\ud55c");
  CHECK(text::to_nfc(U"q\u0307\u0323") == U"q\u0323\u0307");
  CHECK(text::to_nfc(U"\u0958") == U"\u0915\u093c");
  CHECK(text::to_nfc(U"\u212b") == U"\u00c5");
  CHECK(text::to_nfc(U"a\u0323\u0302") == U"\u1ead");
}
