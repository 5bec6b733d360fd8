#include "text/clip_tokenizer.h"

#include <algorithm>
#include <array>
#include <queue>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace atelier::text {
namespace {

constexpr std::size_t kMaxText = 1u << 20;
constexpr std::u32string_view kContractions[] = {
    U"<|startoftext|>", U"<|endoftext|>", U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"};

bool is_symbol(char32_t c) { return !is_space(c) && !is_letter(c) && !is_number(c); }

/// Length of the word at the start of a text that does not begin with white space: CLIP's pattern
/// <\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+
std::size_t word_length(std::u32string_view text) {
  for (const auto contraction : kContractions)
    if (text.starts_with(contraction)) return contraction.size();
  if (is_number(text[0])) return 1;
  const auto member =
      is_letter(text[0]) ? [](char32_t c) { return is_letter(c); } : [](char32_t c) { return is_symbol(c); };
  return static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), member) - text.begin());
}

std::u32string normalize(std::u32string_view text) {
  const std::u32string composed = to_nfc(text);
  std::u32string blanks;
  for (const char32_t c : composed) {
    if (!is_space(c))
      blanks += c;
    else if (blanks.empty() || blanks.back() != U' ')
      blanks += U' ';
  }
  return to_lower(blanks);
}

struct Part {
  std::u32string_view text;
  TokenId added = -1;  ///< or the token that `text` spells
};

/// Cuts the added tokens out of a text: leftmost first, of those that begin at one place the longest.
std::vector<Part> split_added(std::u32string_view text, const std::vector<std::pair<std::u32string, TokenId>>& added) {
  std::vector<Part> parts;
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size() && !added.empty();) {
    const auto found = std::find_if(added.begin(), added.end(),
                                    [&](const auto& token) { return text.substr(at).starts_with(token.first); });
    if (found == added.end()) {
      ++at;
      continue;
    }
    if (at > start) parts.push_back({text.substr(start, at - start)});
    parts.push_back({text.substr(at, found->first.size()), found->second});
    start = at += found->first.size();
  }
  if (start < text.size()) parts.push_back({text.substr(start)});
  return parts;
}

/// The pieces of a word as a list that merges shorten.
struct Symbol {
  TokenId id = 0;
  int previous = -1, next = -1;
  bool alive = true;
};

struct Candidate {
  std::uint32_t rank = 0;
  int left = 0;
  TokenId left_id = 0, right_id = 0, merged = 0;
  bool operator>(const Candidate& other) const { return std::tie(rank, left) > std::tie(other.rank, other.left); }
};

/// Merges the best pair again and again; of equals the leftmost first.
void apply_merges(std::vector<Symbol>& symbols, const ClipVocabulary& vocabulary) {
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](int left) {
    if (left < 0 || symbols[static_cast<std::size_t>(left)].next < 0) return;
    const Symbol& a = symbols[static_cast<std::size_t>(left)];
    const Symbol& b = symbols[static_cast<std::size_t>(a.next)];
    const auto merge = vocabulary.merges.find(ClipVocabulary::merge_key(a.id, b.id));
    if (merge != vocabulary.merges.end()) queue.push({merge->second.rank, left, a.id, b.id, merge->second.piece});
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) consider(static_cast<int>(i));
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[static_cast<std::size_t>(best.left)];
    if (!left.alive || left.next < 0 || left.id != best.left_id) continue;
    Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    if (right.id != best.right_id) continue;
    left.id = best.merged;
    left.next = right.next;
    right.alive = false;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
}

}  // namespace

const std::u32string& byte_spellings() {
  static const std::u32string spellings = [] {
    std::u32string s(256, 0);
    char32_t next = 256;
    for (char32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      s[b] = printable ? b : next++;
    }
    return s;
  }();
  return spellings;
}

ClipTokenizer::ClipTokenizer(ClipTokenizerParts parts) : parts_(std::move(parts)) {
  size_ = static_cast<TokenId>(parts_.vocabulary.pieces.size());
  for (const ClipAddedToken& token : parts_.added) {
    size_ = std::max(size_, token.id + 1);
    const std::u32string content = to_utf32(token.content);
    (token.normalized ? normalized_ : raw_).emplace_back(token.normalized ? normalize(content) : content, token.id);
  }
  for (auto* list : {&raw_, &normalized_})
    std::stable_sort(list->begin(), list->end(),
                     [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
  bos_ = find("bos_token", parts_.bos);
  eos_ = find("eos_token", parts_.eos);
  pad_ = find("pad_token", parts_.pad);
  unk_ = find("unk_token", parts_.unk);
}

TokenId ClipTokenizer::find(const std::string& role, const std::string& piece) const {
  for (const ClipAddedToken& token : parts_.added)
    if (token.content == piece) return token.id;
  const auto found = parts_.vocabulary.ids.find(piece);
  if (found != parts_.vocabulary.ids.end()) return found->second;
  throw base::Error(base::ExitCode::data,
                    fmt::format("tokenizer: {} {} is not in the vocabulary", role, base::in_quotes(piece)));
}

std::string_view ClipTokenizer::piece(TokenId id) const {
  for (const ClipAddedToken& token : parts_.added)
    if (token.id == id) return token.content;
  if (id < 0 || id >= static_cast<TokenId>(parts_.vocabulary.pieces.size())) return {};
  return parts_.vocabulary.pieces[static_cast<std::size_t>(id)];
}

std::vector<std::u32string_view> ClipTokenizer::split_words(std::u32string_view text) const {
  std::vector<std::u32string_view> words;
  while (!text.empty()) {
    if (is_space(text[0])) {
      text.remove_prefix(1);
      continue;
    }
    const std::size_t length = word_length(text);
    const bool marker = length > 3 && text.starts_with(U"<|");
    if (marker) {  // byte-level splitting follows, and takes a special token apart that is a word here
      words.push_back(text.substr(0, 2));
      words.push_back(text.substr(2, length - 4));
      words.push_back(text.substr(length - 2, 2));
    } else {
      words.push_back(text.substr(0, length));
    }
    text.remove_prefix(length);
  }
  return words;
}

void ClipTokenizer::encode_word(std::u32string_view word, std::vector<TokenId>& out) const {
  const std::string bytes = to_utf8(word);
  std::vector<Symbol> symbols(bytes.size());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string piece;
    append_utf8(piece, byte_spellings()[static_cast<unsigned char>(bytes[i])]);
    const bool last = i + 1 == bytes.size();
    if (last) piece += "</w>";
    const auto found = parts_.vocabulary.ids.find(piece);
    symbols[i].id = found != parts_.vocabulary.ids.end() ? found->second : unk_;
    symbols[i].previous = static_cast<int>(i) - 1;
    symbols[i].next = last ? -1 : static_cast<int>(i) + 1;
  }
  apply_merges(symbols, parts_.vocabulary);
  for (const Symbol& symbol : symbols)
    if (symbol.alive) out.push_back(symbol.id);
}

void ClipTokenizer::encode_normalized(std::u32string_view text, std::vector<TokenId>& out) const {
  for (const Part& part : split_added(text, normalized_)) {
    if (part.added >= 0) {
      out.push_back(part.added);
      continue;
    }
    for (const auto word : split_words(part.text)) encode_word(word, out);
  }
}

std::vector<TokenId> ClipTokenizer::encode(std::string_view text) const {
  if (text.size() > kMaxText)
    throw base::Error(base::ExitCode::data, fmt::format("a prompt of {} bytes; at most 1 MiB", text.size()));
  const std::u32string characters = to_utf32(text);
  std::vector<TokenId> ids;
  for (const Part& part : split_added(characters, raw_)) {
    if (part.added >= 0)
      ids.push_back(part.added);
    else
      encode_normalized(normalize(part.text), ids);
  }
  return ids;
}

std::shared_ptr<const ClipTokenizer> ClipTokenizer::open(const std::string& folder) {
  return std::make_shared<const ClipTokenizer>(read_clip_tokenizer(folder));
}

std::shared_ptr<const ClipTokenizer> ClipTokenizer::builtin(bool zero_pad) {
  return std::make_shared<const ClipTokenizer>(builtin_clip_tokenizer(zero_pad));
}

}  // namespace atelier::text
