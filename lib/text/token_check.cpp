#include "text/token_check.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/nearest.h"

namespace atelier::text {
namespace {

constexpr std::string_view kWordEnd = "</w>";
constexpr double kCommon = 0.5, kRare = 0.75;
constexpr std::size_t kShownWords = 5, kLongestSuggestion = 4, kShortestSuggestion = 3, kShortestWord = 3;
constexpr TokenId kBytePieces = 512;  // 256 bytes, and the same as ends of words; merges come after them

/// What people use without knowing that it means something.
constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kKnownMeanings{
    {{"sks", "\"sks\" is also a rifle, which pictures may show"}, {"lora", "\"lora\" is also a first name"}}};

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }

/// The word that a piece is, in small letters of English, or "".
std::string_view word_of(std::string_view piece) {
  if (!piece.ends_with(kWordEnd)) return {};
  piece.remove_suffix(kWordEnd.size());
  return std::all_of(piece.begin(), piece.end(), is_lower) ? piece : std::string_view();
}

double rarity_of(TokenId id, TokenId size) {
  const TokenId first = size > 2 * kBytePieces ? kBytePieces : 0;
  const double merges = std::max<double>(1, size - first);
  return std::clamp((id - first) / merges, 0.0, 1.0);
}

struct Word {
  TokenId id = 0;
  std::string_view text;
};

std::vector<Word> words_of(const ClipTokenizer& tokenizer) {
  std::vector<Word> words;
  for (TokenId id = 0; id < tokenizer.size(); ++id)
    if (const auto word = word_of(tokenizer.piece(id)); word.size() >= kShortestWord) words.push_back({id, word});
  return words;
}

std::vector<std::string> nearest_words(const std::string& token, const std::vector<Word>& words) {
  const std::size_t limit = std::max<std::size_t>(1, token.size() / 2);
  std::vector<std::pair<std::size_t, const Word*>> near;
  for (const Word& word : words) {
    const std::size_t longer = std::max(word.text.size(), token.size());
    if (word.text == token || longer - std::min(word.text.size(), token.size()) > limit) continue;
    if (const std::size_t d = base::edit_distance(token, word.text); d <= limit) near.emplace_back(d, &word);
  }
  // Of equally near ones the most common: words come by their ids.
  std::stable_sort(near.begin(), near.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min(near.size(), kShownWords); ++i) names.emplace_back(near[i].second->text);
  return names;
}

bool is_suggestion(const Word& word, const std::string& token, TokenId size) {
  const auto known = std::any_of(kKnownMeanings.begin(), kKnownMeanings.end(),
                                 [&](const auto& meaning) { return meaning.first == word.text; });
  return !known && word.text != token && word.text.size() >= kShortestSuggestion &&
         word.text.size() <= kLongestSuggestion && rarity_of(word.id, size) >= kRare &&
         word.text.find_first_of("aeiouy") == std::string_view::npos;
}

/// Rare and without vowels, so hardly a word of any language.
std::vector<std::string> suggested_words(const std::string& token, const std::vector<Word>& words, TokenId size) {
  std::vector<std::string> names;
  for (auto word = words.rbegin(); word != words.rend() && names.size() < kShownWords; ++word)
    if (is_suggestion(*word, token, size)) names.emplace_back(word->text);
  return names;
}

void judge(TokenCheck& check) {
  const auto worse = [&](TokenVerdict verdict, std::string note) {
    check.verdict = std::max(check.verdict, verdict);
    check.notes.push_back(std::move(note));
  };
  if (check.pieces.empty()) return worse(TokenVerdict::poor, "it has no pieces: nothing can be learnt of it");
  if (check.token.find_first_of(" \t\n") != std::string::npos)
    worse(TokenVerdict::poor, "it is several words, which prompts would have to repeat exactly");
  for (const auto& [word, meaning] : kKnownMeanings)
    if (check.token == word) worse(TokenVerdict::usable, std::string(meaning));
  if (check.pieces.size() == 1) {
    const double rarity = check.pieces[0].rarity;
    if (rarity < kCommon)
      worse(TokenVerdict::poor, "it is a common word: what the model knows by it would be lost, and stand in the way");
    else if (rarity < kRare)
      worse(TokenVerdict::usable, "it is not very rare: the model may know something by it");
    return;
  }
  check.notes.push_back(fmt::format("it is made of {} pieces", check.pieces.size()));
  for (const TokenCheck::Piece& piece : check.pieces) {
    const std::string_view word = word_of(piece.text);
    if (word.size() >= kShortestWord && piece.rarity < kCommon)
      worse(TokenVerdict::usable, fmt::format("its piece \"{}\" is a word of its own", word));
  }
}

}  // namespace

std::string token_verdict_name(TokenVerdict verdict) {
  return verdict == TokenVerdict::good ? "good" : verdict == TokenVerdict::usable ? "usable" : "poor";
}

TokenCheck check_token(const ClipTokenizer& tokenizer, const std::string& token) {
  TokenCheck check;
  check.token = token;
  for (const TokenId id : tokenizer.encode(token))
    check.pieces.push_back({id, std::string(tokenizer.piece(id)), rarity_of(id, tokenizer.size())});
  const std::vector<Word> words = words_of(tokenizer);
  check.nearest = nearest_words(token, words);
  check.suggestions = suggested_words(token, words, tokenizer.size());
  judge(check);
  return check;
}

base::Json TokenCheck::json() const {
  base::Json all = base::Json::array();
  for (const Piece& piece : pieces) all.push_back({{"id", piece.id}, {"text", piece.text}, {"rarity", piece.rarity}});
  return {{"token", token},
          {"verdict", token_verdict_name(verdict)},
          {"pieces", std::move(all)},
          {"nearest", nearest},
          {"suggestions", suggestions},
          {"notes", notes}};
}

}  // namespace atelier::text
