#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "text/clip_tokenizer.h"

namespace atelier::text {

/// How good a word is as the name of something new.
enum class TokenVerdict {
  good,    ///< one rare piece, or several of which none is a word
  usable,  ///< of pieces that mean something of their own, or not so rare
  poor,    ///< a word that the model knows well, or that is not one word
};
std::string token_verdict_name(TokenVerdict verdict);

/// What CLIP makes of a word that is to name a subject (DreamBooth, arXiv:2208.12242, section 3.2: a rare identifier).
struct TokenCheck {
  struct Piece {
    TokenId id = 0;
    std::string text;   ///< as in the vocabulary; a word's last piece ends with "</w>"
    double rarity = 0;  ///< 0 the most frequent, 1 the rarest: the share of merges that were found more often
  };

  std::string token;
  std::vector<Piece> pieces;
  TokenVerdict verdict = TokenVerdict::good;
  std::vector<std::string> nearest;      ///< words of the vocabulary that are spelled alike, the nearest first
  std::vector<std::string> suggestions;  ///< rare words of one piece, the rarest first
  std::vector<std::string> notes;        ///< sentences for a person

  /// {"token","verdict","pieces":[{"id","text","rarity"}],"nearest","suggestions","notes"}
  base::Json json() const;
};

/// A vocabulary's pieces stand in the order in which they were merged, that is by how often their parts stood beside each
/// other: so a piece's id tells how common it is.
TokenCheck check_token(const ClipTokenizer& tokenizer, const std::string& token);

}  // namespace atelier::text
