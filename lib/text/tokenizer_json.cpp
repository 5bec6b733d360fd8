#include "text/tokenizer_json.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "base/error.h"
#include "text/utf8.h"

namespace atelier::text {
namespace {

using base::Json;

constexpr std::uint64_t kMaxFileBytes = 256u << 20;
constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";

constexpr std::size_t kMaxVocabulary = 2'000'000;

class Converter {
 public:
  explicit Converter(const std::string& path) : what_(std::filesystem::path(path).filename().string()) {
    json_ = base::read_json_file(path, kMaxFileBytes);
  }

  ConvertedTokenizer convert() {
    check_pipeline();
    read_vocabulary();
    read_merges();
    check_merges_are_complete();
    result_.added = parse_added_tokens(json_.value("added_tokens", Json::array()), what_);
    apply_added_tokens();
    assign_types();
    return std::move(result_);
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw base::Error(base::ExitCode::data, what_ + ": " + message);
  }
  [[noreturn]] void unsupported(const std::string& feature) const {
    throw base::Error(base::ExitCode::data, fmt::format("{}: {} is not supported", what_, feature),
                      "only a byte-fallback BPE like Gemma's can be read from tokenizer.json; put its tokenizer.model "
                      "into the folder");
  }

  static bool absent(const Json& object, const char* key) { return !object.contains(key) || object[key].is_null(); }
  static bool set(const Json& object, const char* key) { return !absent(object, key) && object[key] != false; }
  static std::string type_of(const Json& object) {
    return object.is_object() && object.contains("type") && object["type"].is_string()
               ? object["type"].get<std::string>()
               : "without a type";
  }

  static bool replaces_blanks(const Json& step) {
    return type_of(step) == "Replace" && step.contains("pattern") && step["pattern"] == Json{{"String", " "}} &&
           step.contains("content") && step["content"] == std::string(kSpaceSymbol);
  }

  void check_pipeline() {
    if (!json_.is_object() || absent(json_, "model") || !json_["model"].is_object())
      fail("not a tokenizer: it has no \"model\"");
    const Json& model = json_["model"];
    if (type_of(model) != "BPE") unsupported(fmt::format("a model of type {}", type_of(model)));
    for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!absent(model, key) && model[key] != "") unsupported(fmt::format("\"{}\"", key));
    }
    if (!set(model, "byte_fallback")) unsupported("a BPE without byte_fallback");
    if (set(model, "ignore_merges")) unsupported("\"ignore_merges\"");
    if (absent(json_, "normalizer")) unsupported("a BPE without the normalizer of SentencePiece");
    const Json& normalizer = json_["normalizer"];
    if (!replaces_blanks(normalizer)) unsupported(fmt::format("a normalizer of type {}", type_of(normalizer)));
    if (!absent(json_, "pre_tokenizer")) {
      // Gemma's splits at blanks, of which none are left after the normaliser.
      const Json& split = json_["pre_tokenizer"];
      if (type_of(split) != "Split" || !split.contains("pattern") || split["pattern"] != Json{{"String", " "}}) {
        unsupported(fmt::format("a pre_tokenizer of type {}", type_of(split)));
      }
    }
  }

  void read_vocabulary() {
    const Json& model = json_["model"];
    if (absent(model, "vocab") || !model["vocab"].is_object()) fail("\"vocab\" must be an object");
    const Json& vocabulary = model["vocab"];
    const std::size_t count = vocabulary.size();
    if (count == 0 || count > kMaxVocabulary) fail(fmt::format("{} pieces, expected 1 to {}", count, kMaxVocabulary));
    result_.model.pieces.resize(count);
    for (const auto& [spelling, id_value] : vocabulary.items()) {
      const std::int64_t id = id_value.is_number_integer() ? id_value.get<std::int64_t>() : -1;
      if (id < 0 || id >= static_cast<std::int64_t>(count)) {
        fail(fmt::format("\"{}\" has an id that is not in 0 to {}", spelling, count - 1));
      }
      Piece& piece = result_.model.pieces[static_cast<std::size_t>(id)];
      if (!piece.text.empty()) fail(fmt::format("id {} is given twice", id));
      if (spelling.empty()) fail(fmt::format("piece {} is empty", id));
      piece.text = spelling;
    }
    for (std::size_t id = 0; id < count; ++id) ids_.emplace(result_.model.pieces[id].text, id);
  }

  /// "a b" or ["a", "b"].
  std::string merged_piece(const Json& merge, std::size_t rank) const {
    std::string left, right;
    if (merge.is_string()) {
      const std::string& text = merge.get_ref<const std::string&>();
      const std::size_t blank = text.find(' ');
      if (blank == std::string::npos) fail(fmt::format("merge {} is malformed", rank));
      left = text.substr(0, blank), right = text.substr(blank + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
    } else {
      fail(fmt::format("merge {} is malformed", rank));
    }
    if (!ids_.contains(left) || !ids_.contains(right) || !ids_.contains(left + right)) {
      fail(fmt::format("merge {} names a piece that is not in the vocabulary", rank));
    }
    return left + right;
  }

  void read_merges() {
    const Json& model = json_["model"];
    if (absent(model, "merges") || !model["merges"].is_array()) fail("\"merges\" must be a list");
    ways_.assign(result_.model.pieces.size(), 0);
    std::size_t rank = 0;
    for (const Json& merge : model["merges"]) {
      const std::size_t id = ids_.at(merged_piece(merge, rank));
      // A piece is merged as early as its first merge allows.
      if (ways_[id]++ == 0) result_.model.pieces[id].score = -static_cast<float>(rank);
      ++rank;
    }
  }

  /// SentencePiece joins any two neighbours that spell a piece; Hugging Face only the listed ones. They agree where the
  /// list holds every split of each piece that it makes.
  void check_merges_are_complete() const {
    for (std::size_t id = 0; id < ways_.size(); ++id) {
      if (ways_[id] == 0) continue;
      const std::string_view text = result_.model.pieces[id].text;
      std::size_t splits = 0;
      for (std::size_t at = 1; at < text.size(); ++at) {
        if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;
        splits += ids_.contains(text.substr(0, at)) && ids_.contains(text.substr(at)) &&
                  mergeable(text.substr(0, at)) && mergeable(text.substr(at));
      }
      if (ways_[id] < splits) unsupported(fmt::format("a merge list that leaves out ways to make \"{}\"", text));
    }
  }

  /// Whether BPE can have this piece as a symbol: one character, or made by a merge.
  bool mergeable(std::string_view piece) const {
    return decode_utf8(piece).length == piece.size() || ways_[ids_.at(piece)] > 0;
  }

  void apply_added_tokens() {
    for (const AddedToken& token : result_.added) {
      const auto id = static_cast<std::size_t>(token.id);
      if (id < result_.model.pieces.size() && result_.model.pieces[id].text != token.content) {
        fail(fmt::format("added token {} is \"{}\" in the vocabulary and \"{}\" in added_tokens", token.id,
                         result_.model.pieces[id].text, token.content));
      }
      added_ids_.insert(id);
    }
  }

  void assign_types() {
    SentencePieceModel& model = result_.model;
    model.kind = SentencePieceModel::Kind::bpe;
    model.byte_fallback = true;
    model.normalizer = {"", false, false, true};
    if (!absent(json_["model"], "unk_token") && json_["model"]["unk_token"].is_string()) {
      model.unk_piece = json_["model"]["unk_token"].get<std::string>();
    }
    model.bos_piece = "<bos>", model.eos_piece = "<eos>", model.pad_piece = "<pad>";
    for (std::size_t id = 0; id < model.pieces.size(); ++id) {
      Piece& piece = model.pieces[id];
      const bool blanks = piece.text.find(kSpaceSymbol) != std::string::npos;
      if (piece.text == model.unk_piece) {
        piece.type = PieceType::unknown;
      } else if (piece.text == model.bos_piece || piece.text == model.eos_piece || piece.text == model.pad_piece) {
        piece.type = PieceType::control;
      } else if (is_byte_piece(piece.text)) {
        piece.type = PieceType::byte;
      } else if (added_ids_.contains(id) && !(blanks && ways_[id] > 0)) {
        // Added tokens are looked for before blanks are replaced, so the runs of "▁" among them come about by merges.
        piece.type = PieceType::user_defined;
      } else if (decode_utf8(piece.text).length < piece.text.size() && ways_[id] == 0) {
        // No merge makes it, but two neighbours that happen to spell it would be joined.
        piece.unreachable = true;
      }
    }
  }

  static bool is_byte_piece(std::string_view text) {
    const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
    return text.size() == 6 && text.starts_with("<0x") && text[5] == '>' && hex(text[3]) && hex(text[4]);
  }

  std::string what_;
  Json json_;
  ConvertedTokenizer result_;
  std::unordered_map<std::string_view, std::size_t> ids_;  ///< views of result_.model.pieces
  std::vector<std::size_t> ways_;                          ///< by id: how many merges make it
  std::unordered_set<std::size_t> added_ids_;
};

}  // namespace

ConvertedTokenizer convert_tokenizer_json(const std::string& path) { return Converter(path).convert(); }

}  // namespace atelier::text
