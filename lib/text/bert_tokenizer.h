#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace atelier::text {

/// The tokenizer of BERT's uncased models, with the ids of transformers' BertTokenizer: control characters away, lower case without
/// accents, words at blanks and punctuation, each the fewest long pieces from its start. Immutable, so safe to share between
/// threads.
/// Reference: BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding (arXiv:1810.04805).
class BertTokenizer {
 public:
  /// Reads `vocab.txt`: a piece a line, numbered from 0; pieces that go on a word begin with "##". Error(no_input); Error(data)
  /// where [UNK], [CLS] or [SEP] is missing, or the file is no list of pieces.
  static std::shared_ptr<const BertTokenizer> open(const std::string& path);
  /// `what` names the list in errors. Error(data) likewise.
  BertTokenizer(const std::vector<std::string>& pieces, const std::string& what);

  /// Ids of a text, without start and end. Special tokens spelled in the text ("[SEP]") are recognised, as in transformers.
  /// Error(data) above 1 MiB of text.
  std::vector<TokenId> encode(std::string_view text) const;

  TokenId cls() const { return cls_; }
  TokenId sep() const { return sep_; }
  TokenId size() const { return size_; }  ///< one more than the largest id

 private:
  TokenId find(const std::string& piece, const std::string& what) const;
  void encode_words(std::u32string_view text, std::vector<TokenId>& out) const;
  void encode_word(std::u32string_view word, std::vector<TokenId>& out) const;

  std::unordered_map<std::string, TokenId> ids_;
  std::vector<std::pair<std::u32string, TokenId>> special_;
  TokenId unk_ = 0, cls_ = 0, sep_ = 0, size_ = 0;
};

}  // namespace atelier::text
