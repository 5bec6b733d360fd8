// How good a word is as the name of a subject.
#include "text/token_check.h"

#include <algorithm>

#include "support/doctest_last.h"
#include "support/errors.h"

using namespace atelier;
using text::check_token;
using text::ClipTokenizer;
using text::TokenCheck;
using text::TokenVerdict;

namespace {

TokenCheck checked(const std::string& token) { return check_token(*ClipTokenizer::builtin(false), token); }

bool has(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

}  // namespace

TEST_CASE("common words are poor names, rare pieces good ones") {
  const TokenCheck dog = checked("dog");
  REQUIRE(dog.pieces.size() == 1);
  CHECK(dog.pieces[0].text == "dog</w>");
  CHECK(dog.pieces[0].rarity < 0.1);
  CHECK(dog.verdict == TokenVerdict::poor);
  const TokenCheck sks = checked("sks");
  REQUIRE(sks.pieces.size() == 1);
  CHECK(sks.pieces[0].rarity > 0.9);
  CHECK(sks.verdict == TokenVerdict::usable);  // a rifle
  CHECK(test::contains(sks.notes.at(0), "rifle"));
  CHECK(checked("a red dog").verdict == TokenVerdict::poor);
  CHECK(checked("").verdict == TokenVerdict::poor);
  CHECK(checked("mydog").verdict == TokenVerdict::usable);
  const TokenCheck made_up = checked("zxqvkj");
  CHECK(made_up.pieces.size() > 1);
  CHECK(made_up.verdict == TokenVerdict::good);
}

TEST_CASE("words that are spelled alike come nearest first; suggestions are themselves good") {
  const TokenCheck check = checked("doggs");
  REQUIRE(!check.nearest.empty());
  CHECK(has(check.nearest, "dogs"));
  CHECK(check.nearest.size() <= 5);
  CHECK(!has(checked("dog").nearest, "dog"));
  REQUIRE(check.suggestions.size() == 5);
  CHECK(!has(check.suggestions, "sks"));
  for (const std::string& word : check.suggestions) {
    CAPTURE(word);
    const TokenCheck own = checked(word);
    CHECK(own.verdict == TokenVerdict::good);
    CHECK(own.pieces.size() == 1);
    CHECK(!has(own.suggestions, word));
  }
}

TEST_CASE("a small vocabulary has little to suggest") {
  const auto small = ClipTokenizer::open(std::string(ATELIER_TEST_DATA) + "/clip_text/small");
  const TokenCheck check = check_token(*small, "dog");
  CHECK(!check.pieces.empty());
  for (const auto& piece : check.pieces) {
    CHECK(piece.rarity >= 0);
    CHECK(piece.rarity <= 1);
  }
  CHECK(check.json()["verdict"].is_string());
}
