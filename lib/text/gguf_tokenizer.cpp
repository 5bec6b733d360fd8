#include "text/gguf_tokenizer.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "text/make_tokenizer.h"

namespace atelier::text {
namespace {

[[noreturn]] void fail(const std::string& what, const std::string& message) {
  throw base::Error(base::ExitCode::data, what + ": " + message);
}

bool is_byte_piece(std::string_view text) {
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return text.size() == 6 && text.starts_with("<0x") && text[5] == '>' && hex(text[3]) && hex(text[4]);
}

std::vector<Piece> read_pieces(const io::GgufHeader& header, const std::string& what) {
  const auto* texts = header.texts("tokenizer.ggml.tokens");
  if (texts == nullptr || texts->empty()) fail(what, "no tokenizer: there is no list \"tokenizer.ggml.tokens\"");
  const auto scores = header.numbers("tokenizer.ggml.scores"), types = header.numbers("tokenizer.ggml.token_type");
  if (scores.size() != texts->size() || types.size() != texts->size())
    fail(what, fmt::format("{} tokens, {} scores and {} types", texts->size(), scores.size(), types.size()));
  std::vector<Piece> pieces;
  for (std::size_t id = 0; id < texts->size(); ++id) {
    if (!(types[id] >= 1 && types[id] <= 6)) fail(what, fmt::format("piece {} has the unknown type {}", id, types[id]));
    Piece piece{(*texts)[id], static_cast<float>(scores[id]), static_cast<PieceType>(static_cast<int>(types[id]))};
    check_piece(piece, id, what);
    if (piece.type == PieceType::byte && !is_byte_piece(piece.text))
      fail(what, fmt::format("byte piece {} is {}", id, base::in_quotes(piece.text)));
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

}  // namespace

std::shared_ptr<const Tokenizer> tokenizer_from_gguf(const io::GgufHeader& header, const std::string& what) {
  const std::string kind = header.text("tokenizer.ggml.model", what).value_or("");
  if (kind != "llama")
    fail(what, fmt::format("a tokenizer of the kind {} is not supported, only SentencePiece's (llama)",
                           base::in_quotes(kind)));
  SentencePieceModel model;
  model.kind = SentencePieceModel::Kind::bpe;
  model.pieces = read_pieces(header, what);
  model.byte_fallback = std::any_of(model.pieces.begin(), model.pieces.end(),
                                    [](const Piece& piece) { return piece.type == PieceType::byte; });
  const bool prefix = header.integer("tokenizer.ggml.add_space_prefix", what).value_or(0) != 0;
  model.normalizer = {
      .charsmap = {}, .add_dummy_prefix = prefix, .remove_extra_whitespaces = false, .escape_whitespaces = true};
  const auto name_role = [&](const char* key, std::int64_t otherwise, std::string& name) {
    const std::int64_t id = header.integer(key, what).value_or(otherwise);
    if (id >= std::ssize(model.pieces)) fail(what, fmt::format("\"{}\" is {}, outside the vocabulary", key, id));
    name = model.pieces[static_cast<std::size_t>(id)].text;
  };
  name_role("tokenizer.ggml.bos_token_id", 2, model.bos_piece);
  name_role("tokenizer.ggml.eos_token_id", 1, model.eos_piece);
  name_role("tokenizer.ggml.padding_token_id", 0, model.pad_piece);
  name_role("tokenizer.ggml.unknown_token_id", 3, model.unk_piece);
  auto tokenizer = make_tokenizer(std::move(model), what);
  if (tokenizer->bos() < 0) fail(what, "the tokenizer's BOS is no control token");
  return tokenizer;
}

std::shared_ptr<const ChatTemplate> chat_template_from_gguf(const io::GgufHeader& header, const std::string& what) {
  const auto source = header.text("tokenizer.chat_template", what);
  return source ? ChatTemplate::parse(*source, what + ": tokenizer.chat_template") : nullptr;
}

}  // namespace atelier::text
