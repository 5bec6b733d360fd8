#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>

#include <doctest/doctest.h>

#include "base/error.h"
#include "goldens.h"
#include "io/file_system.h"
#include "text/control_pieces.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

using namespace atelier;
using text::Segment;
using text::TokenId;
using text::Tokenizer;
namespace fs = std::filesystem;

namespace {

std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& name) {
  return Tokenizer::open(test::text_data("tokenizers/" + name));
}

const base::Json& goldens() {
  static const base::Json json = base::read_json_file(test::text_data("tokenizer_goldens.json"));
  return json;
}

bool has_control(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  return std::any_of(ids.begin(), ids.end(), [&](TokenId id) { return tokenizer.is_control(id); });
}

std::string stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  text::StreamDecoder decoder(tokenizer);
  std::string out;
  for (const TokenId id : ids) {
    const std::string part = decoder.push(id);
    CHECK(text::is_utf8(part));
    out += part;
  }
  return out + decoder.flush();
}

/// Every marker that untrusted text must not produce.
std::vector<std::string> control_spellings(const Tokenizer& tokenizer) {
  std::vector<std::string> spellings;
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    if (tokenizer.is_control(id)) spellings.emplace_back(tokenizer.piece(id));
  }
  return spellings;
}

}  // namespace

TEST_CASE("untrusted text gets SentencePiece's own ids") {
  for (const char* name : {"gemma", "dummy_prefix", "unigram"}) {
    CAPTURE(name);
    const auto tokenizer = open_tokenizer(name);
    const auto spellings = control_spellings(*tokenizer);
    std::size_t compared = 0;
    for (const auto& golden : goldens()[name]) {
      const std::string input = test::golden_input(golden);
      const bool forged = std::any_of(spellings.begin(), spellings.end(), [&](const std::string& s) {
        return text::is_marker(s) && input.find(s) != std::string::npos;
      });
      if (forged) continue;
      CAPTURE(golden.dump());
      CHECK(tokenizer->encode(input) == golden["ids"].get<std::vector<TokenId>>());
      ++compared;
    }
    CHECK(compared > 250);
  }
}

TEST_CASE("decoding gives what SentencePiece decodes, in one go and as a stream") {
  for (const char* name : {"gemma", "dummy_prefix"}) {
    CAPTURE(name);
    const auto tokenizer = open_tokenizer(name);
    for (const auto& golden : goldens()[name]) {
      const auto ids = golden["ids"].get<std::vector<TokenId>>();
      if (has_control(*tokenizer, ids)) continue;
      CAPTURE(golden.dump());
      const std::string expected =
          golden.contains("decoded") ? golden["decoded"].get<std::string>() : test::golden_input(golden);
      CHECK(tokenizer->decode(ids) == expected);
      CHECK(stream(*tokenizer, ids) == expected);
    }
  }
}

TEST_CASE("trusted text turns every control token's spelling into its id") {
  const auto tokenizer = open_tokenizer("gemma");
  for (const auto& golden : goldens()["trusted"]) {
    CAPTURE(golden.dump());
    CHECK(tokenizer->encode(golden["text"].get<std::string>(), true) == golden["ids"].get<std::vector<TokenId>>());
  }
}

TEST_CASE("tokenizer.json is converted to the same ids as Hugging Face's tokenizers give") {
  const auto tokenizer = open_tokenizer("json");
  const auto spm = open_tokenizer("gemma");
  CHECK(tokenizer->size() == spm->size() - 1);  // <image_soft_token> is in the other's tokenizer_config.json only
  CHECK(tokenizer->bos() == 2);
  for (const char* set : {"json", "trusted"}) {
    for (const auto& golden : goldens()[set]) {
      CAPTURE(golden.dump());
      CHECK(tokenizer->encode(golden["text"].get<std::string>(), true) == golden["ids"].get<std::vector<TokenId>>());
    }
  }
}

TEST_CASE("roles, pieces, bytes and ids outside the vocabulary") {
  const auto tokenizer = open_tokenizer("gemma");
  CHECK(tokenizer->pad() == 0);
  CHECK(tokenizer->eos() == 1);
  CHECK(tokenizer->bos() == 2);
  CHECK(tokenizer->unk() == 3);
  const TokenId turn = tokenizer->find("<start_of_turn>").value();
  CHECK(tokenizer->piece(turn) == "<start_of_turn>");
  CHECK(tokenizer->is_control(turn));
  CHECK(tokenizer->bytes(turn).empty());
  CHECK(tokenizer->bytes(tokenizer->find("<0x0A>").value()) == "\n");
  CHECK_FALSE(tokenizer->is_control(tokenizer->find("<table>").value()));
  CHECK_FALSE(tokenizer->is_control(tokenizer->find("\n\n").value()));
  CHECK(tokenizer->find("<image_soft_token>").value() == tokenizer->size() - 1);
  CHECK(tokenizer->encode("<image_soft_token>", true) == std::vector<TokenId>{tokenizer->size() - 1});
  CHECK_FALSE(tokenizer->find("no such piece").has_value());
  CHECK_FALSE(tokenizer->find("").has_value());
  for (const TokenId id : {-1, tokenizer->size(), tokenizer->size() + 64, INT32_MAX, INT32_MIN}) {
    CHECK(tokenizer->bytes(id).empty());
    CHECK(tokenizer->piece(id).empty());
    CHECK_FALSE(tokenizer->is_control(id));
    CHECK(tokenizer->decode(std::vector<TokenId>{id}).empty());
  }
}

TEST_CASE("forged turns: no spelling in untrusted text yields a reserved id") {
  for (const char* name : {"gemma", "json", "dummy_prefix", "unigram"}) {
    CAPTURE(name);
    const auto tokenizer = open_tokenizer(name);
    const bool lossless = std::string(name) == "gemma" || std::string(name) == "json";
    for (const std::string& piece : control_spellings(*tokenizer)) {
      CAPTURE(piece);
      for (const std::string& input :
           {piece, piece + piece, "a " + piece + " b",
            piece.substr(0, piece.size() / 2) + piece + piece.substr(piece.size() / 2), "<" + piece + ">",
            piece.substr(1) + piece, piece + "\n", piece.substr(0, 1) + piece.substr(0, 1) + piece.substr(1)}) {
        const auto ids = tokenizer->encode(input);
        if (lossless) {
          CHECK_FALSE(has_control(*tokenizer, ids));
          CHECK(tokenizer->decode(ids) == input);
        } else {
          CHECK(std::all_of(ids.begin(), ids.end(),
                            [&](TokenId id) { return id == tokenizer->unk() || !tokenizer->is_control(id); }));
        }
      }
      for (std::size_t cut = 1; cut < piece.size(); ++cut) {  // split over segments, the template's text around it
        const std::vector<Segment> segments{{piece.substr(0, cut), true}, {piece.substr(cut), false}, {"\n", true}};
        const auto ids = tokenizer->encode(segments);
        const TokenId forged = tokenizer->find(piece).value();
        if (forged != tokenizer->unk()) CHECK(std::find(ids.begin(), ids.end(), forged) == ids.end());
      }
    }
  }
}

TEST_CASE("forged turns: 10,000 random strings of special pieces, whole and split") {
  const auto tokenizer = open_tokenizer("gemma");
  auto parts = control_spellings(*tokenizer);
  const std::size_t specials = parts.size();
  for (const char* plain : {"user\n", "model\n", " ", "\n", "a", "<table>", "</b>", "<", ">", "é", "😀", "  ", "hello"})
    parts.push_back(plain);
  std::mt19937_64 random(1);
  const auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  std::size_t reserved = 0, changed = 0, leaks = 0;
  for (int round = 0; round < 10'000; ++round) {
    std::string input;
    for (std::size_t n = 1 + below(8); n > 0; --n) {
      std::string part = parts[below(3) ? below(specials) : below(parts.size())];
      const std::size_t cut = below(part.size() + 1);
      switch (below(5)) {
        case 0: input += part.substr(0, cut); break;
        case 1: input += part.substr(cut); break;
        case 2: input.insert(below(input.size() + 1), part); break;
        default: input += part;
      }
    }
    input = text::replace_invalid(input);
    const auto ids = tokenizer->encode(input);
    reserved += has_control(*tokenizer, ids);
    changed += tokenizer->decode(ids) != input;
    // The same between trusted segments: the ids that came from it are marked untrusted, and none is reserved.
    std::vector<bool> trusted;
    const std::vector<Segment> segments{{"<start_of_turn>user\n", true}, {input, false}, {"<end_of_turn>\n", true}};
    const auto all = tokenizer->encode(segments, &trusted);
    REQUIRE(trusted.size() == all.size());
    for (std::size_t i = 0; i < all.size(); ++i) leaks += !trusted[i] && tokenizer->is_control(all[i]);
  }
  CHECK(reserved == 0);
  CHECK(changed == 0);
  CHECK(leaks == 0);
}

TEST_CASE("segments: one dummy prefix for the whole text, and trust marked id by id") {
  const auto tokenizer = open_tokenizer("dummy_prefix");
  CHECK(tokenizer->adds_dummy_prefix());
  const auto whole = tokenizer->encode("hello world");
  CHECK(tokenizer->decode(whole) == "hello world");
  const std::vector<Segment> segments{{"hello", true}, {" wor", false}, {"ld", false}, {"", true}, {" again", true}};
  std::vector<bool> trusted;
  const auto ids = tokenizer->encode(segments, &trusted);
  CHECK(tokenizer->decode(ids) == "hello world again");
  std::size_t changes = 0;
  for (std::size_t i = 1; i < trusted.size(); ++i) changes += trusted[i] != trusted[i - 1];
  CHECK(changes == 2);
  CHECK(trusted.front());
  CHECK(trusted.back());
  CHECK(std::count(trusted.begin(), trusted.end(), false) > 0);
  const std::vector<Segment> same{{"hel", false}, {"lo wor", false}, {"ld", false}};
  CHECK(tokenizer->encode(same) == whole);
  CHECK(tokenizer->encode("").empty());
}

TEST_CASE("a stream is whole UTF-8 however the bytes of a character arrive") {
  const auto tokenizer = open_tokenizer("gemma");
  const auto byte = [&](int value) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", value);
    return tokenizer->find(name).value();
  };
  text::StreamDecoder decoder(*tokenizer);
  CHECK(decoder.push(byte(0xF0)) == "");
  CHECK(decoder.push(byte(0x9F)) == "");
  CHECK(decoder.push(byte(0x98)) == "");
  CHECK(decoder.push(byte(0x80)) == "😀");
  CHECK(decoder.push(byte(0xE2)) == "");
  CHECK(decoder.push(byte('a')) ==
        "\xEF\xBF\xBD"
        "a");
  CHECK(decoder.push(byte(0xE6)) == "");
  CHECK(decoder.push(byte(0x9D)) == "");
  CHECK(decoder.push(tokenizer->eos()) == "\xEF\xBF\xBD\xEF\xBF\xBD");
  CHECK(decoder.push(byte(0xB1)) == "\xEF\xBF\xBD");
  CHECK(decoder.push(byte(0xE6)) == "");
  CHECK(decoder.flush() == "\xEF\xBF\xBD");
  CHECK(decoder.flush() == "");
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<TokenId> ids(40);
    for (TokenId& id : ids) {
      id = random() % 3 ? byte(static_cast<int>(random() % 256))
                        : static_cast<TokenId>(random() % static_cast<unsigned>(tokenizer->size() + 20)) - 10;
    }
    CHECK(stream(*tokenizer, ids) == tokenizer->decode(ids));
  }
}

TEST_CASE("long and enormous texts") {
  const auto tokenizer = open_tokenizer("gemma");
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "word <table> <start_of_turn> ";
  const auto ids = tokenizer->encode(text);
  CHECK_FALSE(has_control(*tokenizer, ids));
  CHECK(tokenizer->decode(ids) == text);
  CHECK_THROWS_AS(tokenizer->encode(std::string((64u << 20) + 1, 'a')), base::Error);
}
