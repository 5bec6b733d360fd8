#include "text/prompt_chunks.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "text/unicode.h"

namespace atelier::text {
namespace {

constexpr std::size_t kMaxChunks = 1000;

bool is_word(char32_t c) { return is_letter(c) || is_number(c) || c == U'_'; }

/// A stretch of text, or an embedding.
struct Stretch {
  std::u32string_view text;
  std::ptrdiff_t embedding = -1;
};

class EmbeddingFinder {
 public:
  explicit EmbeddingFinder(std::span<const EmbeddingName> names) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      std::u32string name = to_lower(to_utf32(names[i].name));
      if (!name.empty()) names_.emplace_back(std::move(name), i);
    }
    std::stable_sort(names_.begin(), names_.end(),
                     [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
  }

  /// Cuts the names out of a text.
  std::vector<Stretch> split(std::u32string_view text) const {
    const std::u32string lower = to_lower(text);
    // A lower-cased text of another length (the Turkish capital I) is searched as it stands.
    const std::u32string_view searched = lower.size() == text.size() ? std::u32string_view(lower) : text;
    std::vector<Stretch> stretches;
    std::size_t start = 0;
    for (std::size_t at = 0; at < searched.size() && !names_.empty();) {
      const auto found = std::find_if(names_.begin(), names_.end(),
                                      [&](const auto& name) { return stands_at(searched, at, name.first); });
      if (found == names_.end()) {
        ++at;
        continue;
      }
      if (at > start) stretches.push_back({text.substr(start, at - start)});
      stretches.push_back({{}, static_cast<std::ptrdiff_t>(found->second)});
      start = at += found->first.size();
    }
    if (start < text.size()) stretches.push_back({text.substr(start)});
    return stretches;
  }

 private:
  static bool stands_at(std::u32string_view text, std::size_t at, const std::u32string& name) {
    if (!text.substr(at).starts_with(name)) return false;
    const std::size_t end = at + name.size();
    const bool joined_before = at > 0 && is_word(name.front()) && is_word(text[at - 1]);
    const bool joined_after = end < text.size() && is_word(name.back()) && is_word(text[end]);
    return !joined_before && !joined_after;
  }

  std::vector<std::pair<std::u32string, std::size_t>> names_;  ///< longest first
};

class Chunker {
 public:
  explicit Chunker(const ClipTokenizer& tokenizer)
      : tokenizer_(tokenizer), room_(static_cast<std::size_t>(tokenizer.max_length()) - 2) {
    begin();
  }

  void add(TokenId id, double weight) {
    if (used_ == room_) end();
    current_.ids.push_back(id);
    current_.weights.push_back(weight);
    ++used_;
  }

  void add_embedding(std::size_t index, const EmbeddingName& embedding, TokenId first_id, double weight) {
    const auto vectors = static_cast<std::size_t>(embedding.vectors);
    if (vectors > room_)
      throw base::Error(base::ExitCode::data, fmt::format("embedding {} has {} vectors, a chunk has room for {}",
                                                          base::in_quotes(embedding.name), vectors, room_));
    if (used_ + vectors > room_) end();
    for (std::size_t row = 0; row < vectors; ++row) {
      current_.embedded.push_back({current_.ids.size(), index, static_cast<std::int64_t>(row)});
      add(first_id + static_cast<TokenId>(row), weight);
    }
  }

  /// Ends the chunk: end token and padding.
  void end() {
    if (chunks_.size() == kMaxChunks)
      throw base::Error(base::ExitCode::data, fmt::format("the prompt has more than {} chunks", kMaxChunks));
    current_.ids.push_back(tokenizer_.eos());
    current_.ids.resize(room_ + 2, tokenizer_.pad());
    current_.weights.resize(room_ + 2, 1);
    chunks_.push_back(std::move(current_));
    begin();
  }

  std::vector<PromptChunk> finish() {
    if (used_ > 0 || chunks_.empty()) end();
    return std::move(chunks_);
  }

 private:
  void begin() {
    current_ = {};
    current_.ids.push_back(tokenizer_.bos());
    current_.weights.push_back(1);
    used_ = 0;
  }

  const ClipTokenizer& tokenizer_;
  std::size_t room_, used_ = 0;
  PromptChunk current_;
  std::vector<PromptChunk> chunks_;
};

}  // namespace

bool PromptChunk::weighted() const {
  return std::any_of(weights.begin(), weights.end(), [](double weight) { return weight != 1; });
}

std::vector<PromptChunk> chunk_prompt(const ClipTokenizer& tokenizer, std::span<const PromptPart> parts,
                                      std::span<const EmbeddingName> embeddings) {
  const EmbeddingFinder finder(embeddings);
  std::vector<TokenId> first_ids;  // the ids that diffusers would give the embeddings' tokens
  TokenId next = tokenizer.size();
  for (const EmbeddingName& embedding : embeddings) {
    first_ids.push_back(next);
    next += static_cast<TokenId>(embedding.vectors);
  }
  Chunker chunker(tokenizer);
  for (const PromptPart& part : parts) {
    if (part.chunk_break) {
      chunker.end();
      continue;
    }
    const std::u32string text = to_utf32(part.text);
    for (const Stretch& stretch : finder.split(text)) {
      if (stretch.embedding >= 0) {
        const auto index = static_cast<std::size_t>(stretch.embedding);
        chunker.add_embedding(index, embeddings[index], first_ids[index], part.weight);
        continue;
      }
      for (const TokenId id : tokenizer.encode(to_utf8(stretch.text))) chunker.add(id, part.weight);
    }
  }
  return chunker.finish();
}

PromptChunk empty_chunk(const ClipTokenizer& tokenizer) { return chunk_prompt(tokenizer, {}).front(); }

}  // namespace atelier::text
