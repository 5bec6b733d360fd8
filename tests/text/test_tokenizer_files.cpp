#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <random>

#include <doctest/doctest.h>

#include "base/error.h"
#include "goldens.h"
#include "io/file_system.h"
#include "text/sentencepiece_model.h"
#include "text/tokenizer.h"

using namespace atelier;
using base::Json;
using text::TokenId;
using text::Tokenizer;
namespace fs = std::filesystem;

namespace {

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("atelier-tokenizer-" + std::to_string(::getpid()))) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream file(path_ / name, std::ios::binary);  // thousands of times, so without fsync
    file << bytes;
    REQUIRE(file.good());
  }
  std::string path() const { return path_.string(); }

  /// The error's message, or "" where it opens.
  std::string failure(base::ExitCode code = base::ExitCode::data) const {
    try {
      const auto tokenizer = Tokenizer::open(path());
      tokenizer->encode("some <b> text\xff");
      for (TokenId id = -2; id < tokenizer->size() + 2; ++id) tokenizer->bytes(id);
    } catch (const base::Error& error) {
      CHECK(error.code() == code);
      return error.what();
    }
    return "";
  }

 private:
  fs::path path_;
};

std::string fixture(const std::string& name) { return io::read_file(test::text_data("tokenizers/" + name), 1u << 22); }

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  return out += static_cast<char>(value);
}

std::string field(std::uint64_t number, const std::string& payload) {
  return varint(number << 3 | 2) + varint(payload.size()) + payload;
}
std::string field(std::uint64_t number, std::uint64_t value) { return varint(number << 3) + varint(value); }

std::string piece(const std::string& spelling, std::uint64_t type = 1, float score = 0) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &score, 4);
  return field(1, field(1, spelling) + varint(2 << 3 | 5) + bytes + field(3, type));
}

std::string bytes_pieces() {
  std::string out;
  for (int i = 0; i < 256; ++i) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", i);
    out += piece(name, 6);
  }
  return out;
}

const std::string kBpe = field(2, field(3, 2));
const std::string kBytes = field(2, field(3, 2) + field(35, 1));
const std::string kPlain = field(3, field(3, 0) + field(4, 0));
const std::string kBase = piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3);

}  // namespace

TEST_CASE("tokenizer.model: what is accepted") {
  const Folder folder;
  for (const std::string& model :
       {kBase + piece("a"), kBase + piece("a") + kBpe, kBase + piece("a") + kBpe + kPlain,
        kBase + bytes_pieces() + kBytes + kPlain, kBase + piece("a") + field(9, "unknown field") + field(1000, 5),
        kBase + piece("a") + field(4, field(1, ""))}) {
    folder.write("tokenizer.model", model);
    CHECK(folder.failure() == "");
  }
  const auto tokenizer = Tokenizer::open(folder.path());
  CHECK(tokenizer->unk() == 0);
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->eos() == 2);
  CHECK(tokenizer->pad() == -1);
}

TEST_CASE("tokenizer.model: what is refused, and why") {
  const Folder folder;
  CHECK(folder.failure(base::ExitCode::no_input).find("no tokenizer.model and no tokenizer.json") != std::string::npos);
  const std::string nan = piece("b", 1, std::numeric_limits<float>::quiet_NaN()),
                    inf = piece("b", 1, std::numeric_limits<float>::infinity());
  std::string nested;
  for (std::size_t n = 1; n <= 65; ++n) nested += piece(std::string(n, '!'), 4);
  for (const auto& [model, words] : std::initializer_list<std::pair<std::string, std::string>>{
           {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"},
           {"", "no pieces"},
           {"\xff\xff\xff", ""},
           {"not a model at all", ""},
           {kBpe, "no pieces"},
           {std::string(100, '\xff'), "more than 10 bytes"},
           {kBase + piece("a", 0), "type 0"},
           {kBase + piece("a", 7), "type 7"},
           {kBase + piece("a", std::uint64_t{1} << 63), "type"},
           {kBase + piece(""), "piece 3 is empty"},
           {kBase + piece("\xff"), "not UTF-8"},
           {kBase + piece(std::string(5000, 'a')), "longer"},
           {kBase + nan, "not finite"},
           {kBase + inf, "not finite"},
           {kBase + piece("a") + piece("a"), "already defined"},
           {piece("<s>", 3) + piece("a"), "unk is not defined"},
           {kBase + piece("<u>", 2), "unk is already defined"},
           {kBase + piece("<0x41>", 6), "byte_fallback"},
           {kBase + piece("<0xZZ>", 6) + kBytes, "invalid"},
           {kBase + kBytes, "256 byte pieces"},
           {kBase + piece(std::string("a\0b", 3), 4), "NUL"},
           {kBase + nested, "start alike"},
           {kBase + field(2, field(3, 3)), "model type 3"},
           {kBase + field(2, field(3, 99)), "model type 99"},
           {kBase + field(2, field(24, 1)), "suffix"},
           {kBase + field(2, std::string("x")), ""},
           {kBase + field(2, std::uint64_t{1}), "wire type"},
           {kBase + field(1, std::uint64_t{1}), "wire type"},
           {kBase + varint(1 << 3 | 2) + varint(1u << 30), "truncated"},
           {kBase + varint(1 << 3 | 2) + varint(~0ull) + "x", "truncated"},
           {kBase + varint(3), "bad field number"},
           {kBase + varint(9 << 3 | 3), "wire type 3"},
           {kBase + varint(9 << 3 | 5) + "ab", "truncated"},
           {kBase + field(3, field(2, "x")), "normalisation"},
           {kBase + field(3, field(2, std::string(4, '\xff') + std::string(2000, 'x'))), "normalisation"},
           {kBase + field(3, field(2, std::string("\0\4\0\0", 4) + std::string(1024, '\xff') + "x")), "normalisation"},
           {kBase + field(5, field(2, "x")), "denormalizer"},
           {kBase.substr(0, kBase.size() - 1), ""}}) {
    CAPTURE(words);
    folder.write("tokenizer.model", model);
    const std::string message = folder.failure();
    CHECK(message.starts_with("tokenizer.model: "));
    CHECK(message.find(words) != std::string::npos);
    CHECK(message.find('\n') == std::string::npos);
  }
}

TEST_CASE("tokenizer.model: mutations open or fail, nothing else") {
  const Folder folder;
  std::mt19937_64 random(5);
  const auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  for (const char* name : {"unigram/tokenizer.model", "dummy_prefix/tokenizer.model"}) {
    const std::string good = fixture(name);
    std::size_t opened = 0;
    for (int round = 0; round < 1500; ++round) {
      std::string bad = good;
      for (std::size_t n = 1 + below(3); n > 0; --n) {
        // Half of the changes go where the rules and flags are: behind the pieces.
        const std::size_t at =
            below(2) ? below(bad.size()) : bad.size() - 1 - below(std::min<std::size_t>(bad.size(), 1500));
        switch (below(4)) {
          case 0: bad[at] = static_cast<char>(below(256)); break;
          case 1: bad[at] ^= static_cast<char>(1 << below(8)); break;
          case 2: bad.erase(at, 1 + below(4)); break;
          default: bad.insert(at, 1, static_cast<char>(below(256)));
        }
      }
      try {
        const text::SentencePieceModel model = text::parse_sentencepiece_model(bad, "mutation");
        folder.write("tokenizer.model", bad);
        opened += folder.failure().empty();
      } catch (const base::Error& error) {
        CHECK(error.code() == base::ExitCode::data);
      }
    }
    CHECK(opened > 20);
  }
}

TEST_CASE("tokenizer.json: what is not such a BPE is named") {
  const Folder folder;
  const Json good = base::parse_json(fixture("json/tokenizer.json"), "fixture");
  const auto message = [&](const std::function<void(Json&)>& change) {
    Json json = good;
    change(json);
    folder.write("tokenizer.json", json.dump());
    return folder.failure();
  };
  CHECK(message([](Json&) {}) == "");
  for (const auto& [words, change] : std::initializer_list<std::pair<std::string, std::function<void(Json&)>>>{
           {"has no \"model\"", [](Json& j) { j.erase("model"); }},
           {"has no \"model\"", [](Json& j) { j = Json::array(); }},
           {"a model of type Unigram is not supported", [](Json& j) { j["model"]["type"] = "Unigram"; }},
           {"a model of type without a type", [](Json& j) { j["model"].erase("type"); }},
           {"byte_fallback is not supported", [](Json& j) { j["model"]["byte_fallback"] = false; }},
           {"\"dropout\" is not supported", [](Json& j) { j["model"]["dropout"] = 0.1; }},
           {"\"end_of_word_suffix\" is not supported", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }},
           {"\"ignore_merges\" is not supported", [](Json& j) { j["model"]["ignore_merges"] = true; }},
           {"without the normalizer of SentencePiece", [](Json& j) { j["normalizer"] = nullptr; }},
           {"a normalizer of type NFKC is not supported", [](Json& j) { j["normalizer"] = {{"type", "NFKC"}}; }},
           {"a normalizer of type Replace", [](Json& j) { j["normalizer"]["content"] = "_"; }},
           {"a normalizer of type without", [](Json& j) { j["normalizer"] = 5; }},
           {"a pre_tokenizer of type ByteLevel", [](Json& j) { j["pre_tokenizer"] = {{"type", "ByteLevel"}}; }},
           {"\"vocab\" must be", [](Json& j) { j["model"]["vocab"] = Json::array(); }},
           {"0 pieces", [](Json& j) { j["model"]["vocab"] = Json::object(); }},
           {"id that is not", [](Json& j) { j["model"]["vocab"]["<bos>"] = -1; }},
           {"id that is not", [](Json& j) { j["model"]["vocab"]["<bos>"] = 1e9; }},
           {"id that is not", [](Json& j) { j["model"]["vocab"]["<bos>"] = "2"; }},
           {"given twice", [](Json& j) { j["model"]["vocab"]["<bos>"] = 1; }},
           {"\"merges\" must be", [](Json& j) { j["model"]["merges"] = 5; }},
           {"merge 0 is malformed", [](Json& j) { j["model"]["merges"][0] = "ab"; }},
           {"merge 0 is malformed", [](Json& j) { j["model"]["merges"][0] = {"a"}; }},
           {"merge 0 names a piece", [](Json& j) { j["model"]["merges"][0] = "q\u00fc xyz"; }},
           {"leaves out ways", [](Json& j) { j["model"]["merges"].erase(1); }},
           {"\"added_tokens\" must be", [](Json& j) { j["added_tokens"] = 1; }},
           {"no id", [](Json& j) { j["added_tokens"][0].erase("id"); }},
           {"has no content", [](Json& j) { j["added_tokens"][0].erase("content"); }},
           {"in added_tokens", [](Json& j) { j["added_tokens"][0]["content"] = "other"; }},
           {"the id -5", [](Json& j) { j["added_tokens"][0]["id"] = -5; }},
           {"outside the vocabulary", [](Json& j) { j["added_tokens"][0]["id"] = 100'000; }}}) {
    CAPTURE(words);
    const std::string found = message(change);
    CHECK(found.starts_with("tokenizer.json: "));
    CHECK(found.find(words) != std::string::npos);
  }
  for (const char* bad : {"", "{", "[[[[", "{\"a\":1,\"a\":2}"}) {
    folder.write("tokenizer.json", bad);
    CHECK(folder.failure() != "");
  }
}

TEST_CASE("tokenizer.json: merges as strings and as pairs, and pieces that no merge makes") {
  const Folder folder;
  Json json = base::parse_json(fixture("json/tokenizer.json"), "fixture");
  for (auto& merge : json["model"]["merges"]) merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  // Two characters that no merge joins: Hugging Face never gives this id.
  const auto id = static_cast<TokenId>(json["model"]["vocab"].size());
  json["model"]["vocab"]["Qz"] = id;
  folder.write("tokenizer.json", json.dump());
  const auto strings = Tokenizer::open(folder.path()), pairs = Tokenizer::open(test::text_data("tokenizers/json"));
  const Json goldens = base::read_json_file(test::text_data("tokenizer_goldens.json"));
  for (const auto& golden : goldens["json"]) {
    const std::string input = golden["text"].get<std::string>();
    CHECK(strings->encode(input, true) == pairs->encode(input, true));
  }
  CHECK(strings->find("Qz").value() == id);
  CHECK(strings->bytes(id) == "Qz");
  CHECK_FALSE(strings->is_control(id));
  const auto ids = strings->encode("aQzQz b");
  CHECK(std::find(ids.begin(), ids.end(), id) == ids.end());
  CHECK(strings->decode(ids) == "aQzQz b");
}

TEST_CASE("tokenizer_config.json and added_tokens.json") {
  const Folder folder;
  folder.write("tokenizer.model", kBase + piece("a") + piece("<x>", 4) + piece("word", 4) + kBpe + kPlain);
  CHECK(Tokenizer::open(folder.path())->size() == 6);
  folder.write("added_tokens.json", R"({"<soft>": 6})");
  folder.write("tokenizer_config.json",
               R"({"additional_special_tokens": ["word"], "extra_special_tokens": {"image_token": "<soft>"},
      "added_tokens_decoder": {"4": {"content": "<renamed>", "special": false}, "7": {"content": "plain words", "special": false}}})");
  const auto tokenizer = Tokenizer::open(folder.path());
  CHECK(tokenizer->size() == 8);
  CHECK(tokenizer->is_control(5));
  CHECK(tokenizer->is_control(6));
  CHECK_FALSE(tokenizer->is_control(7));
  CHECK(tokenizer->piece(4) == "<renamed>");
  CHECK(tokenizer->find("<renamed>").value() == 4);
  CHECK(tokenizer->bytes(7) == "plain words");
  CHECK(tokenizer->encode("a<renamed><x><soft>plain words</s>", true) == std::vector<TokenId>{3, 4, 4, 6, 7, 2});
  for (const TokenId id : tokenizer->encode("a<renamed><x>wordword<soft></s>")) CHECK((id == 0 || id == 3));
  for (const char* bad :
       {"[]", "{", R"({"added_tokens_decoder": []})", R"({"added_tokens_decoder": {"x": {"content": "a"}}})",
        R"({"added_tokens_decoder": {"-1": {"content": "a"}}})",
        R"({"added_tokens_decoder": {"99": {"content": "a"}}})", R"({"added_tokens_decoder": {"7": {}}})",
        R"({"added_tokens_decoder": {"7": {"content": ""}}})",
        R"({"added_tokens_decoder": {"99999999999999999999": {"content": "a"}}})"}) {
    CAPTURE(bad);
    folder.write("tokenizer_config.json", bad);
    CHECK(folder.failure() != "");
  }
  folder.write("tokenizer_config.json", "{}");
  for (const char* bad : {"[]", R"({"a": "b"})", R"({"a": -1})", R"({"a": 1e3})", R"({"a": 1000})"}) {
    CAPTURE(bad);
    folder.write("added_tokens.json", bad);
    CHECK(folder.failure() != "");
  }
}

TEST_CASE("a vocabulary of Gemma 3's size opens fast") {
  const Folder folder;
  std::string model = kBase + bytes_pieces();
  const std::string letters = "abcdefghijklmnopqrstuvwxyz";
  for (std::size_t i = 0; i < 262'144 - 259; ++i) {
    std::string spelling = i % 2 ? "\xE2\x96\x81" : "";
    for (std::size_t rest = i + 1; rest > 0; rest /= 26) spelling += letters[rest % 26];
    model += piece(spelling + "-", 1, -static_cast<float>(i));
  }
  folder.write("tokenizer.model", model + kBytes + kPlain);
  const auto start = std::chrono::steady_clock::now();
  const auto tokenizer = Tokenizer::open(folder.path());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  MESSAGE("262,144 pieces opened in " << seconds << " s");
  CHECK(tokenizer->size() == 262'144);
  CHECK(seconds < 5);  // 0.2 s on an idle machine; sanitizers and busy machines take longer
}
