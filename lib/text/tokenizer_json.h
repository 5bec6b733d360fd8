#pragma once

#include <string>
#include <vector>

#include "text/sentencepiece_model.h"
#include "text/tokenizer_config.h"

namespace atelier::text {

struct ConvertedTokenizer {
  SentencePieceModel model;
  std::vector<AddedToken> added;
};

/// Converts a Hugging Face `tokenizer.json` to a SentencePiece model with the same ids: a BPE with byte fallback
/// whose only normalisation writes blanks as "▁", as Gemma's is. A merge's rank becomes the score of the piece it
/// makes. Error(data) names whatever else the file asks for, and also a merge list that SentencePiece cannot follow
/// (a piece that two known pieces would make although no merge says so).
ConvertedTokenizer convert_tokenizer_json(const std::string& path);

}  // namespace atelier::text
