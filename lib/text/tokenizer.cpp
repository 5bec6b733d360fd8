#include "text/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <unordered_map>

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include "base/error.h"
#include "io/file_system.h"
#include "text/control_pieces.h"
#include "text/make_tokenizer.h"
#include "text/normalizer.h"
#include "text/piece_matcher.h"
#include "text/sentencepiece_model.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace atelier::text {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxModelBytes = 64u << 20;
constexpr std::size_t kMaxTextBytes = 64u << 20;
/// SentencePiece's prefix matcher has room for this many pieces that start at one place.
constexpr std::size_t kMaxNestedPieces = 64;
constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";

[[noreturn]] void fail(const std::string& what, const std::string& message) {
  throw base::Error(base::ExitCode::data, what + ": " + message);
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

bool is_blank_run(std::string_view piece) {
  while (piece.starts_with(kSpaceSymbol)) piece.remove_prefix(kSpaceSymbol.size());
  return piece.empty();
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(SentencePieceModel model, const TokenizerConfig& config, const std::string& what)
      : what_(what) {
    index_user_defined_pieces(model);
    normalizer_.emplace(std::move(model.normalizer), user_defined_, what_);
    load_processor(model);
    pieces_ = std::move(model.pieces);
    learned_ = pieces_.size();
    find_roles(model, config);
    apply_added_tokens(config);
    mark_control_tokens(config);
    index_trusted_spellings(config);
    tabulate_bytes();
  }

  TokenId size() const override { return static_cast<TokenId>(pieces_.size()); }
  TokenId bos() const override { return bos_; }
  TokenId eos() const override { return eos_; }
  TokenId pad() const override { return pad_; }
  TokenId unk() const override { return unk_; }
  bool adds_dummy_prefix() const override { return normalizer_->adds_dummy_prefix(); }

  std::vector<TokenId> encode(std::string_view text, bool trusted) const override {
    const Segment segment{std::string(text), trusted};
    return encode(std::span<const Segment>(&segment, 1), nullptr);
  }

  std::vector<TokenId> encode(std::span<const Segment> segments, std::vector<bool>* trusted_ids) const override {
    const std::vector<Segment> merged = merge(segments);
    std::vector<std::string_view> stretches;
    for (const Segment& segment : merged) stretches.push_back(segment.text);
    const std::vector<std::string> normalized = normalizer_->normalize(stretches);
    std::vector<TokenId> ids;
    if (trusted_ids) trusted_ids->clear();
    for (std::size_t i = 0; i < merged.size(); ++i) {
      merged[i].trusted ? encode_trusted(normalized[i], ids) : encode_untrusted(normalized[i], ids);
      if (trusted_ids) trusted_ids->resize(ids.size(), merged[i].trusted);
    }
    return ids;
  }

  std::string decode(std::span<const TokenId> ids) const override {
    StreamDecoder decoder(*this);
    std::string text;
    for (const TokenId id : ids) text += decoder.push(id);
    return text += decoder.flush();
  }

  std::string_view bytes(TokenId id) const override { return known(id) ? std::string_view(bytes_[index(id)]) : ""; }
  std::string_view piece(TokenId id) const override {
    return known(id) ? std::string_view(pieces_[index(id)].text) : "";
  }
  bool is_control(TokenId id) const override { return known(id) && control_[index(id)]; }

  std::optional<TokenId> find(std::string_view piece) const override {
    if (const auto added = added_ids_.find(std::string(piece)); added != added_ids_.end()) return added->second;
    const TokenId id = processor_.PieceToId(piece);  // the unknown piece where there is none
    if (id >= 0 && id < size() && pieces_[index(id)].text == piece) return id;
    return std::nullopt;
  }

 private:
  static std::size_t index(TokenId id) { return static_cast<std::size_t>(id); }
  bool known(TokenId id) const { return id >= 0 && id < size(); }

  void index_user_defined_pieces(const SentencePieceModel& model) {
    for (std::size_t id = 0; id < model.pieces.size(); ++id) {
      const Piece& piece = model.pieces[id];
      if (piece.type == PieceType::user_defined) user_defined_.add(piece.text, static_cast<TokenId>(id));
    }
    if (user_defined_.deepest_nesting() > kMaxNestedPieces) {
      fail(what_, fmt::format("more than {} user-defined pieces that start alike", kMaxNestedPieces));
    }
  }

  void load_processor(const SentencePieceModel& model) {
    static const bool silenced = (sentencepiece::SetMinLogLevel(4), true);
    static_cast<void>(silenced);
    try {
      const auto status = processor_.LoadFromSerializedProto(serialize_without_normalizer(model));
      if (!status.ok()) fail(what_, fmt::format("SentencePiece refuses it: {}", status.message()));
    } catch (const base::Error&) {
      throw;
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {  // its trie builder throws
      fail(what_, fmt::format("SentencePiece refuses it: {}", error.what()));
    }
  }

  void find_roles(const SentencePieceModel& model, const TokenizerConfig& config) {
    std::unordered_map<std::string_view, TokenId> control;
    for (std::size_t id = 0; id < learned_; ++id) {
      if (pieces_[id].type == PieceType::unknown) unk_ = static_cast<TokenId>(id);
      if (pieces_[id].type == PieceType::control) control.emplace(pieces_[id].text, static_cast<TokenId>(id));
    }
    const auto role = [&](const std::string& in_model, const char* in_config) -> TokenId {
      if (const auto found = control.find(in_model); found != control.end()) return found->second;
      const auto name = config.roles.find(in_config);
      if (name == config.roles.end()) return -1;
      const auto found = control.find(name->second);
      return found == control.end() ? -1 : found->second;
    };
    bos_ = role(model.bos_piece, "bos_token");
    eos_ = role(model.eos_piece, "eos_token");
    pad_ = role(model.pad_piece, "pad_token");
  }

  /// New tokens behind the vocabulary, and other spellings for tokens that it has.
  void apply_added_tokens(const TokenizerConfig& config) {
    const std::size_t limit = learned_ + config.added.size();
    for (const AddedToken& token : config.added) {
      const auto id = static_cast<std::size_t>(token.id);
      if (id >= limit)
        fail(what_, fmt::format("added token \"{}\" has the id {}, outside the vocabulary", token.content, id));
      while (pieces_.size() <= id) {
        pieces_.push_back({fmt::format("<id {}>", pieces_.size()), 0, PieceType::user_defined, false});
      }
      if (pieces_[id].type == PieceType::byte && pieces_[id].text != token.content) {
        fail(what_, fmt::format("added token \"{}\" takes the id of a byte piece", token.content));
      }
      pieces_[id].text = token.content;
      added_ids_[token.content] = static_cast<TokenId>(id);
    }
  }

  void mark_control_tokens(const TokenizerConfig& config) {
    control_.assign(pieces_.size(), false);
    for (std::size_t id = 0; id < pieces_.size(); ++id) {
      const Piece& piece = pieces_[id];
      control_[id] = piece.type == PieceType::control || piece.type == PieceType::unknown ||
                     (piece.type == PieceType::user_defined && is_marker(piece.text));
    }
    for (const AddedToken& token : config.added) {
      if (token.special || is_marker(token.content)) control_[static_cast<std::size_t>(token.id)] = true;
    }
    for (const std::string& name : config.special_names) {
      if (const auto id = find(name)) control_[index(*id)] = true;
    }
  }

  /// What is looked for in trusted text: the pieces that SentencePiece finds by itself, and those that it does not.
  void index_trusted_spellings(const TokenizerConfig& config) {
    const auto add = [this](std::string spelling, TokenId id, bool by_sentencepiece) {
      replace_all(spelling, " ", kSpaceSymbol);  // texts are searched after normalisation
      trusted_.add(spelling, static_cast<TokenId>(spellings_.size()));
      spellings_.push_back({id, by_sentencepiece});
    };
    for (const AddedToken& token : config.added) {
      // Where blanks come about by merges (tokenizer.json), a run of them must not be cut out beforehand.
      if (pieces_[static_cast<std::size_t>(token.id)].type == PieceType::normal && is_blank_run(token.content))
        continue;
      const PieceMatcher::Match itself{token.content.size(), static_cast<TokenId>(token.id)};
      const bool found_anyway = user_defined_.longest(token.content) == itself;
      add(token.content, static_cast<TokenId>(token.id), found_anyway);
    }
    for (std::size_t id = 0; id < learned_; ++id) {
      const Piece& piece = pieces_[id];
      if (piece.type == PieceType::user_defined) add(piece.text, static_cast<TokenId>(id), true);
      if (piece.type == PieceType::control || piece.type == PieceType::unknown)
        add(piece.text, static_cast<TokenId>(id), false);
    }
  }

  void tabulate_bytes() {
    bytes_.resize(pieces_.size());
    byte_ids_.assign(256, -1);
    for (std::size_t id = 0; id < pieces_.size(); ++id) {
      if (control_[id]) continue;
      if (pieces_[id].type == PieceType::byte) {
        const auto value = static_cast<unsigned>(std::stoul(pieces_[id].text.substr(3, 2), nullptr, 16));
        bytes_[id] = std::string(1, static_cast<char>(value));
        byte_ids_[value] = static_cast<TokenId>(id);
      } else {
        bytes_[id] = pieces_[id].text;
        replace_all(bytes_[id], kSpaceSymbol, " ");
      }
    }
  }

  std::vector<Segment> merge(std::span<const Segment> segments) const {
    std::vector<Segment> merged;
    std::size_t total = 0;
    for (const Segment& segment : segments) {
      total += segment.text.size();
      if (total > kMaxTextBytes) {
        throw base::Error(base::ExitCode::data,
                          fmt::format("a text of more than {} bytes cannot be tokenised", kMaxTextBytes));
      }
      if (segment.text.empty()) continue;
      if (!merged.empty() && merged.back().trusted == segment.trusted) {
        merged.back().text += segment.text;
      } else {
        merged.push_back(segment);
      }
    }
    return merged;
  }

  void sentencepiece_encode(std::string_view normalized, std::vector<TokenId>& ids) const {
    if (normalized.empty()) return;
    std::vector<int> found;
    const auto status = processor_.Encode(normalized, &found);
    if (!status.ok()) fail(what_, fmt::format("SentencePiece cannot encode a text: {}", status.message()));
    ids.insert(ids.end(), found.begin(), found.end());
  }

  void encode_trusted(std::string_view text, std::vector<TokenId>& ids) const {
    std::size_t begin = 0, at = 0;
    while (at < text.size()) {
      const auto match = trusted_.longest(text.substr(at));
      if (!match) {
        at += decode_utf8(text.substr(at)).length;
        continue;
      }
      const Spelling& spelling = spellings_[index(match->id)];
      if (!spelling.by_sentencepiece) {
        sentencepiece_encode(text.substr(begin, at - begin), ids);
        ids.push_back(spelling.id);
        begin = at + match->length;
      }
      at += match->length;
    }
    sentencepiece_encode(text.substr(begin), ids);
  }

  /// Walks over the text as SentencePiece would, from one longest user-defined piece to the next, and cuts behind the
  /// first character of every one that is a control token.
  void encode_untrusted(std::string_view text, std::vector<TokenId>& ids) const {
    std::size_t begin = 0, at = 0;
    while (at < text.size()) {
      const auto match = user_defined_.longest(text.substr(at));
      if (match && !control_[index(match->id)]) {
        at += match->length;
        continue;
      }
      at += decode_utf8(text.substr(at)).length;
      if (match) {
        encode_without_control(text.substr(begin, at - begin), ids);
        begin = at;
      }
    }
    encode_without_control(text.substr(begin), ids);
  }

  /// Encodes a stretch and, whatever the vocabulary is like, leaves no control token in the result: one that
  /// SentencePiece produces all the same is spelled in bytes.
  void encode_without_control(std::string_view text, std::vector<TokenId>& ids) const {
    std::vector<TokenId> found;
    sentencepiece_encode(text, found);
    for (const TokenId id : found) {
      if (id == unk_ || !is_control(id)) {
        ids.push_back(id);
        continue;
      }
      for (const char c : processor_.IdToPiece(id)) {
        const TokenId byte = byte_ids_[static_cast<unsigned char>(c)];
        ids.push_back(byte >= 0 ? byte : unk_);
      }
    }
  }

  struct Spelling {
    TokenId id = -1;
    bool by_sentencepiece = false;
  };

  std::string what_;
  std::vector<Piece> pieces_;
  std::size_t learned_ = 0;  ///< pieces of the SentencePiece model; those behind are added tokens
  PieceMatcher user_defined_;
  std::optional<Normalizer> normalizer_;
  sentencepiece::SentencePieceProcessor processor_;
  TokenId bos_ = -1, eos_ = -1, pad_ = -1, unk_ = -1;
  std::unordered_map<std::string, TokenId> added_ids_;
  std::vector<bool> control_;
  PieceMatcher trusted_;  ///< to an index of spellings_
  std::vector<Spelling> spellings_;
  std::vector<std::string> bytes_;
  std::vector<TokenId> byte_ids_;  ///< by byte, -1 where there is none
};

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::open(const std::string& folder) {
  const fs::path base_path(folder);
  const std::string model_path = (base_path / "tokenizer.model").string();
  const std::string json_path = (base_path / "tokenizer.json").string();
  std::error_code ignored;
  TokenizerConfig config = read_tokenizer_config(folder);
  if (fs::exists(model_path, ignored)) {
    const std::string bytes = io::read_file(model_path, kMaxModelBytes);
    if (bytes.starts_with("version https://git-lfs")) {
      throw base::Error(base::ExitCode::data, "tokenizer.model: a Git LFS pointer, not the file itself",
                        "run `git lfs pull` in the model's folder, or download the file");
    }
    return std::make_shared<SentencePieceTokenizer>(parse_sentencepiece_model(bytes, "tokenizer.model"), config,
                                                    "tokenizer.model");
  }
  if (fs::exists(json_path, ignored)) {
    ConvertedTokenizer converted = convert_tokenizer_json(json_path);
    config.added.insert(config.added.begin(), converted.added.begin(), converted.added.end());
    return std::make_shared<SentencePieceTokenizer>(std::move(converted.model), config, "tokenizer.json");
  }
  throw base::Error(base::ExitCode::no_input, fmt::format("{}: no tokenizer.model and no tokenizer.json", folder));
}

std::shared_ptr<const Tokenizer> make_tokenizer(SentencePieceModel model, const std::string& what) {
  return std::make_shared<SentencePieceTokenizer>(std::move(model), TokenizerConfig(), what);
}

}  // namespace atelier::text
