// BERT's tokenizer beside transformers' BertTokenizer; tests/data/bert_text comes from scripts/fixtures/bert_text.py.
#include "text/bert_tokenizer.h"

#include "base/json.h"
#include "support/scratch.h"
#include "text/unicode.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using text::BertTokenizer;
using text::TokenId;

const std::string folder = std::string(ATELIER_TEST_DATA) + "/bert_text";

}  // namespace

TEST_CASE("BERT's ids are transformers'") {
  const base::Json goldens = base::read_json_file(folder + "/goldens.json");
  const auto tokenizer = BertTokenizer::open(folder + "/vocab.txt");
  REQUIRE(goldens["texts"].size() >= 200);
  REQUIRE(goldens["texts"].size() == goldens["ids"].size());
  for (std::size_t i = 0; i < goldens["texts"].size(); ++i) {
    const auto text = goldens["texts"][i].get<std::string>();
    CAPTURE(text);
    CHECK(tokenizer->encode(text) == goldens["ids"][i].get<std::vector<TokenId>>());
  }
  CHECK(tokenizer->cls() == 2);
  CHECK(tokenizer->sep() == 3);
}

TEST_CASE("the longest pieces from a word's start; a word with an unknown part is unknown") {
  const BertTokenizer tokenizer({"[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "##a", "u", "!"}, "pieces");
  CHECK(tokenizer.encode("Unaffable!") == std::vector<TokenId>{3, 4, 5, 8});
  CHECK(tokenizer.encode("una u") == std::vector<TokenId>{3, 6, 7});
  CHECK(tokenizer.encode("unx u") == std::vector<TokenId>{0, 7});
  CHECK(tokenizer.encode("").empty());
  CHECK(tokenizer.size() == 9);
}

TEST_CASE("malformed BERT vocabularies are refused, and a text has a limit") {
  const test::Scratch scratch;
  const auto open = [&](const std::string& text) {
    test::put_file(scratch.file("vocab.txt"), text);
    return test::error_of(base::ExitCode::data, [&] { BertTokenizer::open(scratch.file("vocab.txt")); });
  };
  CHECK(open("[UNK]\r\n[CLS]\r\n[SEP]\r\n") == "(no error)");
  CHECK(test::contains(open("[UNK]\n[CLS]\n"), "has no piece [SEP]"));
  CHECK(test::contains(open(""), "0 pieces"));
  CHECK(test::contains(open("[UNK]\n\xff\n"), "UTF-8"));
  CHECK(test::error_of(base::ExitCode::no_input, [&] { BertTokenizer::open(scratch.file("none")); }) != "(no error)");
  const BertTokenizer tokenizer({"[UNK]", "[CLS]", "[SEP]"}, "pieces");
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { tokenizer.encode(std::string((1 << 20) + 1, ' ')); }),
                       "at most"));
}

TEST_CASE("canonical decomposition takes everything apart and orders the marks") {
  CHECK(text::to_nfd(U"\u1e69") == U"s\u0323\u0307");
  CHECK(text::to_nfd(U"s\u0307\u0323") == U"s\u0323\u0307");
  CHECK(text::to_nfd(U"\ud55c") == U"\u1112\u1161\u11ab");
}
