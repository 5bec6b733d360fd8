#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace atelier::text {

using TokenId = std::int32_t;

/// A stretch of text with its origin. Text that came from a user (or a file, a tool result, ...) can never become a
/// control token, however it is spelled; text that came from a template can.
struct Segment {
  std::string text;
  bool trusted = false;  ///< true: control tokens are recognised
  bool operator==(const Segment&) const = default;
};

/// SentencePiece tokenizer (BPE or unigram) of a model folder. Immutable, so safe to share between threads.
class Tokenizer {
 public:
  /// Reads `tokenizer.model` of a model folder (else converts the BPE of its `tokenizer.json`), and the extra tokens
  /// of `tokenizer_config.json`. Error(no_input) where no tokenizer is there, Error(data) where it is malformed: an
  /// unknown piece type, ids outside the vocabulary, a file that SentencePiece refuses.
  static std::shared_ptr<const Tokenizer> open(const std::string& folder);
  virtual ~Tokenizer() = default;

  virtual TokenId size() const = 0;
  virtual TokenId bos() const = 0;
  virtual TokenId eos() const = 0;
  virtual TokenId pad() const = 0;
  virtual TokenId unk() const = 0;

  /// Without BOS or EOS. Untrusted text gives exactly SentencePiece's ids, except where it spells a control token: that
  /// part is cut behind its first character, so that ordinary pieces spell it and decoding gives the same text.
  virtual std::vector<TokenId> encode(std::string_view text, bool trusted = false) const = 0;
  /// Adjacent segments of equal trust are encoded as one; where trust changes, no piece reaches across. Error(data)
  /// above 64 MiB of text. `trusted_ids`, where not null, receives for each id whether it came from trusted text.
  virtual std::vector<TokenId> encode(std::span<const Segment> segments,
                                      std::vector<bool>* trusted_ids = nullptr) const = 0;

  /// Text of the ids, control tokens left out, bytes of byte pieces joined; every invalid byte replaced by U+FFFD as
  /// SentencePiece does. Ids outside the vocabulary (an embedding may have more rows than there are pieces) add
  /// nothing.
  virtual std::string decode(std::span<const TokenId> ids) const = 0;
  /// The bytes that one id adds to the text: "▁" is a blank, a byte piece one byte; nothing for a control token and
  /// for an id outside the vocabulary.
  virtual std::string_view bytes(TokenId id) const = 0;
  /// The piece as it is spelled in the vocabulary ("▁the", "<0x0A>", "<end_of_turn>").
  virtual std::string_view piece(TokenId id) const = 0;
  /// CONTROL and UNKNOWN pieces, and user-defined pieces that the tokenizer config marks as special, the turn and
  /// function markers, and <unusedN>: everything that steers a model and that untrusted text must not produce.
  virtual bool is_control(TokenId id) const = 0;
  virtual std::optional<TokenId> find(std::string_view piece) const = 0;
  /// Whether encoding puts a blank before the text, which decoding takes away again. Not so with Gemma.
  virtual bool adds_dummy_prefix() const = 0;
};

/// Turns a stream of ids into text that is always whole UTF-8: bytes of an unfinished character wait for the next id.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  /// Complete characters that `id` finished; invalid bytes become U+FFFD. Pushes and flush together give what
  /// Tokenizer::decode gives.
  std::string push(TokenId id);
  /// What is left at the end of the stream: unfinished bytes become U+FFFD.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;
  bool at_start_ = true;
};

}  // namespace atelier::text
