#include "text/sentencepiece_model.h"

#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"
#include "text/utf8.h"

namespace atelier::text {
namespace {

constexpr std::size_t kMaxPieces = 2'000'000;
constexpr std::size_t kMaxPieceBytes = 4096;

[[noreturn]] void fail(const std::string& what, const std::string& message) {
  throw base::Error(base::ExitCode::data, what + ": " + message);
}

enum WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

struct Field {
  std::uint64_t number = 0;
  std::uint8_t wire = 0;
  std::uint64_t value = 0;   ///< of kVarint and kFixed32
  std::string_view payload;  ///< of kLengthDelimited
};

/// Walks over the fields of one protobuf message; every length is checked against what is left.
class WireReader {
 public:
  WireReader(std::string_view bytes, const std::string& what) : rest_(bytes), what_(what) {}

  bool next(Field& field) {
    if (rest_.empty()) return false;
    const std::uint64_t tag = varint();
    field = {tag >> 3, static_cast<std::uint8_t>(tag & 7), 0, {}};
    if (field.number == 0 || field.number > 0x1FFFFFFF) fail(what_, "not a SentencePiece model (bad field number)");
    switch (field.wire) {
      case kVarint: field.value = varint(); break;
      case kFixed64: take(8); break;
      case kFixed32: {
        std::uint32_t word = 0;
        const std::string_view bytes = take(4);
        for (int i = 3; i >= 0; --i)
          word = (word << 8) | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
        field.value = word;
        break;
      }
      case kLengthDelimited: field.payload = take(varint()); break;
      default: fail(what_, fmt::format("not a SentencePiece model (wire type {})", field.wire));
    }
    return true;
  }

 private:
  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) fail(what_, "not a SentencePiece model, or truncated");
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail(what_, "not a SentencePiece model (a number of more than 10 bytes)");
  }

  std::string_view rest_;
  const std::string& what_;
};

void expect_wire(const Field& field, WireType wire, const std::string& what) {
  if (field.wire != wire)
    fail(what, fmt::format("field {} has wire type {}, expected {}", field.number, field.wire, +wire));
}

Piece parse_piece(std::string_view bytes, std::size_t id, const std::string& what) {
  Piece piece;
  WireReader reader(bytes, what);
  for (Field field; reader.next(field);) {
    if (field.number == 1) {
      expect_wire(field, kLengthDelimited, what);
      piece.text = field.payload;
    } else if (field.number == 2) {
      expect_wire(field, kFixed32, what);
      const auto word = static_cast<std::uint32_t>(field.value);
      std::memcpy(&piece.score, &word, sizeof word);
    } else if (field.number == 3) {
      expect_wire(field, kVarint, what);
      if (field.value < 1 || field.value > 6)
        fail(what, fmt::format("piece {} has the unknown type {}", id, field.value));
      piece.type = static_cast<PieceType>(field.value);
    }
  }
  check_piece(piece, id, what);
  return piece;
}

void parse_trainer_spec(std::string_view bytes, SentencePieceModel& model, const std::string& what) {
  WireReader reader(bytes, what);
  const auto name = [&what](const Field& field) {
    expect_wire(field, kLengthDelimited, what);
    if (!is_utf8(field.payload)) fail(what, "the name of a control piece is not UTF-8");
    return std::string(field.payload);
  };
  for (Field field; reader.next(field);) {
    switch (field.number) {
      case 3:
        expect_wire(field, kVarint, what);
        if (field.value != 1 && field.value != 2) {
          fail(what, fmt::format("model type {} is not supported, only unigram (1) and BPE (2)", field.value));
        }
        model.kind = static_cast<SentencePieceModel::Kind>(field.value);
        break;
      case 24:
        expect_wire(field, kVarint, what);
        if (field.value != 0) fail(what, "treat_whitespace_as_suffix is not supported");
        break;
      case 35:
        expect_wire(field, kVarint, what);
        model.byte_fallback = field.value != 0;
        break;
      case 45: model.unk_piece = name(field); break;
      case 46: model.bos_piece = name(field); break;
      case 47: model.eos_piece = name(field); break;
      case 48: model.pad_piece = name(field); break;
      default: break;
    }
  }
}

NormalizerSpec parse_normalizer_spec(std::string_view bytes, NormalizerSpec spec, const std::string& what) {
  WireReader reader(bytes, what);
  for (Field field; reader.next(field);) {
    if (field.number == 2) {
      expect_wire(field, kLengthDelimited, what);
      spec.charsmap = field.payload;
    } else if (field.number >= 3 && field.number <= 5) {
      expect_wire(field, kVarint, what);
      bool& target = field.number == 3   ? spec.add_dummy_prefix
                     : field.number == 4 ? spec.remove_extra_whitespaces
                                         : spec.escape_whitespaces;
      target = field.value != 0;
    }
  }
  return spec;
}

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void put_number(std::string& out, std::uint32_t field, std::uint64_t value) {
  put_varint(out, (field << 3) | kVarint);
  put_varint(out, value);
}

void put_bytes(std::string& out, std::uint32_t field, std::string_view bytes) {
  put_varint(out, (field << 3) | kLengthDelimited);
  put_varint(out, bytes.size());
  out.append(bytes);
}

}  // namespace

void check_piece(const Piece& piece, std::size_t id, const std::string& what) {
  if (piece.text.empty()) fail(what, fmt::format("piece {} is empty", id));
  if (piece.text.size() > kMaxPieceBytes)
    fail(what, fmt::format("piece {} is longer than {} bytes", id, kMaxPieceBytes));
  if (!is_utf8(piece.text)) fail(what, fmt::format("piece {} is not UTF-8", id));
  if (piece.type == PieceType::user_defined && piece.text.find('\0') != std::string::npos) {
    fail(what, fmt::format("user-defined piece {} has a NUL in it", id));
  }
  if (!std::isfinite(piece.score)) fail(what, fmt::format("piece {} has a score that is not finite", id));
}

SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& what) {
  SentencePieceModel model;
  WireReader reader(bytes, what);
  for (Field field; reader.next(field);) {
    if (field.number > 5) continue;
    expect_wire(field, kLengthDelimited, what);
    switch (field.number) {
      case 1:
        if (model.pieces.size() == kMaxPieces) fail(what, fmt::format("more than {} pieces", kMaxPieces));
        model.pieces.push_back(parse_piece(field.payload, model.pieces.size(), what));
        break;
      case 2: parse_trainer_spec(field.payload, model, what); break;
      case 3: model.normalizer = parse_normalizer_spec(field.payload, std::move(model.normalizer), what); break;
      case 5:
        if (!parse_normalizer_spec(field.payload, {}, what).charsmap.empty()) {
          fail(what, "a denormalizer is not supported");
        }
        break;
      default: break;  // 4: samples for SentencePiece's own self-test
    }
  }
  if (model.pieces.empty()) fail(what, "not a SentencePiece model: it has no pieces");
  return model;
}

std::string serialize_without_normalizer(const SentencePieceModel& model) {
  std::string out, piece;
  out.reserve(model.pieces.size() * 24);
  for (const Piece& p : model.pieces) {
    piece.clear();
    put_bytes(piece, 1, p.text);
    std::uint32_t word = 0;
    std::memcpy(&word, &p.score, sizeof word);
    put_varint(piece, (2u << 3) | kFixed32);
    for (int shift = 0; shift < 32; shift += 8) piece.push_back(static_cast<char>(word >> shift));
    // A control piece is one that SentencePiece does not look for in texts.
    put_number(piece, 3, static_cast<std::uint64_t>(p.unreachable ? PieceType::control : p.type));
    put_bytes(out, 1, piece);
  }
  std::string trainer;
  put_number(trainer, 3, static_cast<std::uint64_t>(model.kind));
  put_number(trainer, 35, model.byte_fallback ? 1 : 0);
  put_bytes(trainer, 45, model.unk_piece);
  put_bytes(trainer, 46, model.bos_piece);
  put_bytes(trainer, 47, model.eos_piece);
  put_bytes(trainer, 48, model.pad_piece);
  put_bytes(out, 2, trainer);
  std::string normalizer;
  for (const std::uint32_t flag : {3u, 4u, 5u}) put_number(normalizer, flag, 0);
  put_bytes(out, 3, normalizer);
  return out;
}

}  // namespace atelier::text
