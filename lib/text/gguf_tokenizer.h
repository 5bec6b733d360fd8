#pragma once

#include <memory>
#include <string>

#include "io/gguf.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace atelier::text {

/// The SentencePiece vocabulary in a GGUF file's metadata (`tokenizer.ggml.*`): pieces, scores and types are those of a
/// tokenizer.model, with BPE by scores, and byte fallback where there are byte pieces. `what` names the file. Error(data): another kind of tokenizer, lists
/// of different lengths, what parse_sentencepiece_model refuses, roles outside the vocabulary.
std::shared_ptr<const Tokenizer> tokenizer_from_gguf(const io::GgufHeader& header, const std::string& what);

/// `tokenizer.chat_template`; null where there is none. Error(data).
std::shared_ptr<const ChatTemplate> chat_template_from_gguf(const io::GgufHeader& header, const std::string& what);

}  // namespace atelier::text
