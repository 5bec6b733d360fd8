#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer.h"

namespace atelier::text {

/// A byte-level BPE: the pieces and which two make another.
struct ClipVocabulary {
  struct Merge {
    std::uint32_t rank = 0;
    TokenId piece = 0;
  };

  std::vector<std::string> pieces;  ///< by id, bytes spelled as in GPT-2, the last piece of a word ends with "</w>"
  std::unordered_map<std::string, TokenId> ids;
  std::unordered_map<std::uint64_t, Merge> merges;  ///< by merge_key

  static std::uint64_t merge_key(TokenId left, TokenId right) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) | static_cast<std::uint32_t>(right);
  }
};

/// A piece that is found in the text as it is, before anything else.
struct ClipAddedToken {
  TokenId id = 0;
  std::string content;
  bool normalized = false;  ///< looked for in the lower-cased text
};

/// What a tokenizer folder says.
struct ClipTokenizerParts {
  ClipVocabulary vocabulary;
  std::vector<ClipAddedToken> added;
  std::string bos = "<|startoftext|>", eos = "<|endoftext|>", pad = "<|endoftext|>", unk = "<|endoftext|>";
  std::int64_t max_length = 77;
};

/// CLIP's tokenizer, with the ids of transformers' CLIPTokenizer: NFC, white space made blanks, lower case, words by
/// CLIP's pattern, BPE over bytes. Immutable, so safe to share between threads.
/// Reference: Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020).
class ClipTokenizer {
 public:
  /// Reads a `tokenizer` folder of a diffusers model: `vocab.json` and `merges.txt`, else `tokenizer.json`; special
  /// tokens and the length from `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.
  /// Error(no_input) where none is there, Error(data) where one is malformed.
  static std::shared_ptr<const ClipTokenizer> open(const std::string& folder);
  /// CLIP's own vocabulary of 49,408 pieces (data/README.md), for single-file checkpoints. `zero_pad`: padded with id 0
  /// ("!"), as OpenCLIP's models are, instead of the end token.
  static std::shared_ptr<const ClipTokenizer> builtin(bool zero_pad);

  explicit ClipTokenizer(ClipTokenizerParts parts);

  /// Ids of a text, without start and end tokens. Special tokens spelled in the text are recognised, as in transformers.
  /// Error(data) above 1 MiB of text.
  std::vector<TokenId> encode(std::string_view text) const;

  TokenId bos() const { return bos_; }
  TokenId eos() const { return eos_; }
  TokenId pad() const { return pad_; }
  TokenId size() const { return size_; }  ///< one more than the largest id
  /// Ids of one pass of the text encoder, start and end included: 77.
  std::int64_t max_length() const { return parts_.max_length; }
  /// How a piece is spelled in the vocabulary; "" for an id outside it.
  std::string_view piece(TokenId id) const;

 private:
  std::vector<std::u32string_view> split_words(std::u32string_view text) const;
  void encode_word(std::u32string_view word, std::vector<TokenId>& out) const;
  void encode_normalized(std::u32string_view text, std::vector<TokenId>& out) const;
  TokenId find(const std::string& role, const std::string& piece) const;

  ClipTokenizerParts parts_;
  std::vector<std::pair<std::u32string, TokenId>> raw_, normalized_;  ///< added tokens, longest first
  TokenId bos_ = 0, eos_ = 0, pad_ = 0, unk_ = 0, size_ = 0;
};

/// The readers behind ClipTokenizer::open and builtin.
ClipTokenizerParts read_clip_tokenizer(const std::string& folder);
ClipTokenizerParts builtin_clip_tokenizer(bool zero_pad);

/// How GPT-2's byte-level BPE spells a byte: printable characters stand for themselves.
const std::u32string& byte_spellings();

}  // namespace atelier::text
