#include "text/bert_tokenizer.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iterator>

#include <fmt/format.h>

#include "base/error.h"
#include "io/file_system.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace atelier::text {
namespace {

using base::Error;
using base::ExitCode;

struct Range {
  std::uint32_t first, last;
};

#include "text/bert_tables.inc"

constexpr std::size_t kMaxText = 1u << 20, kMaxPieces = 1'000'000, kMaxWord = 100;  // a longer word is unknown
constexpr std::uint64_t kMaxFileBytes = 64u << 20;
// Those of BERT, and the two that BLIP adds.
constexpr std::string_view kSpecial[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"};

template <std::size_t n>
bool among(const Range (&ranges)[n], std::uint32_t c) {
  const auto after = std::upper_bound(std::begin(ranges), std::end(ranges), c,
                                      [](std::uint32_t value, const Range& range) { return value < range.first; });
  return after != std::begin(ranges) && c <= std::prev(after)->last;
}

/// What the pieces spell: blanks between words, ideographs alone, no accents, lower case.
std::u32string normalize(std::u32string_view text) {
  std::u32string clean;
  for (const char32_t c : text) {
    if (among(kRemoved, c)) continue;
    if (among(kBlanks, c))
      clean += U' ';
    else if (among(kIdeographs, c))
      clean += {U' ', c, U' '};
    else
      clean += c;
  }
  std::u32string bare = to_nfd(clean);
  std::erase_if(bare, [](char32_t c) { return among(kAccents, c); });
  return to_lower(bare);
}

}  // namespace

std::shared_ptr<const BertTokenizer> BertTokenizer::open(const std::string& path) {
  const std::string what = std::filesystem::path(path).filename().string(), text = io::read_file(path, kMaxFileBytes);
  if (!is_utf8(text)) throw Error(ExitCode::data, what + ": not valid UTF-8");
  std::vector<std::string> pieces;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    pieces.push_back(text.substr(at, end - at));
    if (pieces.back().ends_with('\r')) pieces.back().pop_back();
    at = end + 1;
  }
  return std::make_shared<const BertTokenizer>(pieces, what);
}

BertTokenizer::BertTokenizer(const std::vector<std::string>& pieces, const std::string& what) {
  if (pieces.empty() || pieces.size() > kMaxPieces)
    throw Error(ExitCode::data, fmt::format("{}: {} pieces, expected 1 to {}", what, pieces.size(), kMaxPieces));
  for (const std::string& piece : pieces) ids_.insert_or_assign(piece, size_++);  // of equal ones the last counts
  unk_ = find("[UNK]", what);
  cls_ = find("[CLS]", what);
  sep_ = find("[SEP]", what);
  for (const std::string_view piece : kSpecial)
    if (const auto found = ids_.find(std::string(piece)); found != ids_.end())
      special_.emplace_back(to_utf32(piece), found->second);
}

TokenId BertTokenizer::find(const std::string& piece, const std::string& what) const {
  const auto found = ids_.find(piece);
  if (found == ids_.end()) throw Error(ExitCode::data, fmt::format("{}: has no piece {}", what, piece));
  return found->second;
}

std::vector<TokenId> BertTokenizer::encode(std::string_view text) const {
  if (text.size() > kMaxText)
    throw Error(ExitCode::data, fmt::format("a text of {} bytes, at most {} are taken", text.size(), kMaxText));
  const std::u32string all = to_utf32(text);
  const std::u32string_view characters = all;
  std::vector<TokenId> ids;
  std::size_t start = 0;
  for (std::size_t at = characters.find(U'['); at < characters.size(); at = characters.find(U'[', at)) {
    const auto found = std::find_if(special_.begin(), special_.end(),
                                    [&](const auto& token) { return characters.substr(at).starts_with(token.first); });
    if (found == special_.end()) {
      ++at;
      continue;
    }
    encode_words(characters.substr(start, at - start), ids);
    ids.push_back(found->second);
    start = at += found->first.size();
  }
  encode_words(characters.substr(start), ids);
  return ids;
}

/// Words end at blanks and around punctuation, which stands alone.
void BertTokenizer::encode_words(std::u32string_view text, std::vector<TokenId>& out) const {
  const std::u32string normal = normalize(text);
  std::size_t start = 0;
  const auto end_word = [&](std::size_t end) {
    if (end > start) encode_word(std::u32string_view(normal).substr(start, end - start), out);
  };
  for (std::size_t i = 0; i < normal.size(); ++i) {
    const bool blank = among(kBlanks, normal[i]), mark = among(kPunctuation, normal[i]);
    if (!blank && !mark) continue;
    end_word(i);
    start = i;
    if (mark) end_word(i + 1);
    start = i + 1;
  }
  end_word(normal.size());
}

void BertTokenizer::encode_word(std::u32string_view word, std::vector<TokenId>& out) const {
  if (word.size() > kMaxWord) {
    out.push_back(unk_);
    return;
  }
  std::vector<TokenId> pieces;
  for (std::size_t start = 0; start < word.size();) {
    std::size_t length = word.size() - start;
    auto found = ids_.end();
    for (; length > 0 && found == ids_.end(); --length)
      found = ids_.find((start > 0 ? "##" : "") + to_utf8(word.substr(start, length)));
    if (found == ids_.end()) {  // a word of which one part is unknown is unknown
      out.push_back(unk_);
      return;
    }
    pieces.push_back(found->second);
    start += length + 1;
  }
  out.insert(out.end(), pieces.begin(), pieces.end());
}

}  // namespace atelier::text
