#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace atelier::text {

/// The types of SentencePiece's ModelProto, with its numbers.
enum class PieceType : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Piece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::normal;
  bool unreachable = false;  ///< a normal piece that no text may be encoded to; SentencePiece never learns its spelling
};

struct NormalizerSpec {
  std::string charsmap;  ///< compiled rules: 4 bytes trie size, double array, NUL-terminated replacements; or empty
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

/// What a `tokenizer.model` file says, as far as encoding needs it.
struct SentencePieceModel {
  enum class Kind : std::uint8_t { unigram = 1, bpe = 2 };

  Kind kind = Kind::unigram;
  std::vector<Piece> pieces;  ///< by id
  bool byte_fallback = false;
  std::string unk_piece = "<unk>", bos_piece = "<s>", eos_piece = "</s>", pad_piece = "<pad>";
  NormalizerSpec normalizer;
};

/// Reads a serialised ModelProto (protobuf wire format). `what` names the file. Error(data): truncated or malformed
/// fields, an unknown piece type or model kind, a piece that is empty, longer than 4,096 bytes or not UTF-8, a score
/// that is not finite, more than 2,000,000 pieces, and features that encoding here does not have. Reference:
/// sentencepiece_model.proto of SentencePiece 0.2.1.
SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& what);

/// Error(data) where a piece is empty, longer than 4,096 bytes or not UTF-8, or its score is not finite.
void check_piece(const Piece& piece, std::size_t id, const std::string& what);

/// Serialises the model for SentencePiece with an identity normaliser: texts are normalised before they get there, see
/// Normalizer.
std::string serialize_without_normalizer(const SentencePieceModel& model);

}  // namespace atelier::text
