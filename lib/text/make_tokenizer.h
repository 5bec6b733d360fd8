#pragma once

#include <memory>
#include <string>

#include "text/sentencepiece_model.h"
#include "text/tokenizer.h"

namespace atelier::text {

/// The tokenizer of a SentencePiece model from anywhere, without added tokens. `what` names it in errors. Error(data):
/// SentencePiece refuses it.
std::shared_ptr<const Tokenizer> make_tokenizer(SentencePieceModel model, const std::string& what);

}  // namespace atelier::text
