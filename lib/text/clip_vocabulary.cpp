// Where CLIP's pieces and merges come from: a model folder, or the data built into the project.
#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "io/file_system.h"
#include "text/clip_tokenizer.h"
#include "text/tokenizer_config.h"
#include "text/utf8.h"

// clip_merges.bin: for each merge, in order, the ids of its left and right piece as two little-endian 16-bit numbers.
// GCC and clang read the file in here, so that no other file has to be found at run time.
__asm__(
    ".pushsection .rodata\n"
    ".global atelier_clip_merges\n"
    ".hidden atelier_clip_merges\n"
    "atelier_clip_merges:\n"
    ".incbin \"" ATELIER_CLIP_MERGES
    "\"\n"
    ".popsection\n");
extern "C" const unsigned char atelier_clip_merges[];

namespace atelier::text {
namespace {

namespace fs = std::filesystem;
using base::Json;

constexpr std::size_t kBuiltinMerges = 48894;
constexpr std::size_t kMaxPieces = 1'000'000, kMaxMerges = 1'000'000;
constexpr std::uint64_t kMaxFileBytes = 64u << 20;

[[noreturn]] void fail(const std::string& what, const std::string& message) {
  throw base::Error(base::ExitCode::data, what + ": " + message);
}

void add_piece(ClipVocabulary& vocabulary, std::string piece) {
  vocabulary.ids.emplace(piece, static_cast<TokenId>(vocabulary.pieces.size()));
  vocabulary.pieces.push_back(std::move(piece));
}

void read_pieces(const Json& object, const std::string& what, ClipVocabulary& vocabulary) {
  if (!object.is_object() || object.empty()) fail(what, "the vocabulary is not an object of pieces and ids");
  if (object.size() > kMaxPieces) fail(what, fmt::format("{} pieces, at most {}", object.size(), kMaxPieces));
  const auto highest = static_cast<std::int64_t>(2 * kMaxPieces);
  for (const auto& [piece, value] : object.items()) {
    const std::int64_t id = value.is_number_integer() ? value.get<std::int64_t>() : -1;
    if (id < 0 || id >= highest) fail(what, fmt::format("{} has an id that is not one", base::in_quotes(piece)));
    const auto place = static_cast<std::size_t>(id);
    if (vocabulary.pieces.size() <= place) vocabulary.pieces.resize(place + 1);
    vocabulary.pieces[place] = piece;
    vocabulary.ids.emplace(piece, static_cast<TokenId>(id));
  }
}

/// The piece that the merge makes must be known, as the tokenizers library demands.
void add_merge(ClipVocabulary& vocabulary, const std::string& left, const std::string& right, const std::string& what) {
  const auto rank = vocabulary.merges.size();
  if (rank >= kMaxMerges) fail(what, fmt::format("more than {} merges", kMaxMerges));
  const auto a = vocabulary.ids.find(left), b = vocabulary.ids.find(right), both = vocabulary.ids.find(left + right);
  const auto none = vocabulary.ids.end();
  if (a == none || b == none || both == none)
    fail(what, fmt::format("merge {} of {} and {}: a piece is not in the vocabulary", rank, base::in_quotes(left),
                           base::in_quotes(right)));
  // A pair that is listed twice counts with its last rank there.
  vocabulary.merges[ClipVocabulary::merge_key(a->second, b->second)] = {static_cast<std::uint32_t>(rank), both->second};
}

void read_merges_text(const std::string& path, ClipVocabulary& vocabulary) {
  const std::string what = fs::path(path).filename().string();
  const std::string text = io::read_file(path, kMaxFileBytes);
  if (!is_utf8(text)) fail(what, "not valid UTF-8");
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.starts_with("#version")) continue;
    const std::size_t blank = line.find(' ');
    if (blank == std::string::npos || line.find(' ', blank + 1) != std::string::npos)
      fail(what, fmt::format("{} is not two pieces", base::in_quotes(line)));
    add_merge(vocabulary, line.substr(0, blank), line.substr(blank + 1), what);
  }
}

void read_merges_json(const Json& list, const std::string& what, ClipVocabulary& vocabulary) {
  if (!list.is_array()) fail(what, "\"merges\" must be a list");
  for (const Json& item : list) {
    if (item.is_array() && item.size() == 2 && item[0].is_string() && item[1].is_string()) {
      add_merge(vocabulary, item[0].get<std::string>(), item[1].get<std::string>(), what);
      continue;
    }
    const std::string text = item.is_string() ? item.get<std::string>() : "";
    const std::size_t blank = text.find(' ');
    if (blank == std::string::npos) fail(what, "a merge is not two pieces");
    add_merge(vocabulary, text.substr(0, blank), text.substr(blank + 1), what);
  }
}

/// Entries of tokenizer.json's "added_tokens", and of tokenizer_config.json's "added_tokens_decoder" by their id.
void add_token(ClipTokenizerParts& parts, std::int64_t id, const Json& entry, const std::string& what) {
  const auto content = token_content(entry);
  if (!content || content->empty()) fail(what, "an added token has no content");
  if (id < 0 || id > static_cast<std::int64_t>(2 * kMaxPieces)) fail(what, "an added token has an id that is not one");
  const bool special = entry.is_object() && entry.value("special", Json(false)) == true;
  const bool normalized = entry.is_object() && entry.contains("normalized") ? entry["normalized"] == true : !special;
  auto& added = parts.added;
  std::erase_if(added, [&](const ClipAddedToken& token) { return token.content == *content; });
  added.push_back({static_cast<TokenId>(id), *content, normalized});
}

void read_tokenizer_json(const std::string& path, ClipTokenizerParts& parts) {
  const std::string what = fs::path(path).filename().string();
  const Json json = base::read_json_file(path, kMaxFileBytes);
  if (!json.is_object() || !json.contains("model") || !json["model"].is_object()) fail(what, "it has no \"model\"");
  const Json& model = json["model"];
  if (model.value("type", Json("BPE")) != "BPE" || model.value("end_of_word_suffix", Json()) != "</w>")
    fail(what, "not CLIP's kind of BPE (whose words end with \"</w>\")");
  read_pieces(model.value("vocab", Json()), what, parts.vocabulary);
  read_merges_json(model.value("merges", Json()), what, parts.vocabulary);
  const Json added = json.value("added_tokens", Json::array());
  if (!added.is_array()) fail(what, "\"added_tokens\" must be a list");
  for (const Json& entry : added) {
    const bool has_id = entry.is_object() && entry.contains("id") && entry["id"].is_number_integer();
    if (!has_id) fail(what, "an added token has no id");
    add_token(parts, entry["id"].get<std::int64_t>(), entry, what);
  }
}

void read_roles(const std::string& path, ClipTokenizerParts& parts) {
  const Json json = base::read_json_file(path, kMaxFileBytes);
  if (!json.is_object()) fail(fs::path(path).filename().string(), "expected a JSON object");
  const auto role = [&](const char* key, std::string& target) {
    if (const auto content = json.contains(key) ? token_content(json[key]) : std::nullopt) target = *content;
  };
  role("bos_token", parts.bos);
  role("eos_token", parts.eos);
  role("pad_token", parts.pad);
  role("unk_token", parts.unk);
}

void read_config(const std::string& path, ClipTokenizerParts& parts) {
  const std::string what = fs::path(path).filename().string();
  const Json json = base::read_json_file(path, kMaxFileBytes);
  if (!json.is_object()) fail(what, "expected a JSON object");
  const Json decoder = json.value("added_tokens_decoder", Json::object());
  for (const auto& [id, entry] : decoder.items()) {
    if (id.empty() || id.size() > 9 || id.find_first_not_of("0123456789") != std::string::npos)
      fail(what, fmt::format("{} in added_tokens_decoder is not an id", base::in_quotes(id)));
    add_token(parts, std::stoll(id), entry, what);
  }
  // Some folders carry 10^30 for "no limit": CLIP's own length counts then.
  if (const Json length = json.value("model_max_length", Json()); length.is_number()) {
    const double value = length.get<double>();
    if (value < 3) fail(what, fmt::format("\"model_max_length\" is {}, expected at least 3", value));
    if (value <= 4096) parts.max_length = static_cast<std::int64_t>(value);
  }
}

void read_added_tokens(const std::string& path, ClipTokenizerParts& parts) {
  const std::string what = fs::path(path).filename().string();
  const Json json = base::read_json_file(path, kMaxFileBytes);
  if (!json.is_object()) fail(what, "expected a JSON object");
  for (const auto& [content, id] : json.items()) {
    if (!id.is_number_integer()) fail(what, fmt::format("the id of {} is not an integer", base::in_quotes(content)));
    const bool known = std::any_of(parts.added.begin(), parts.added.end(),
                                   [&content = content](const ClipAddedToken& t) { return t.content == content; });
    if (!known) add_token(parts, id.get<std::int64_t>(), Json(content), what);
  }
}

/// Start, end and the others are recognised in texts, whether or not a file lists them.
void add_special_tokens(ClipTokenizerParts& parts) {
  for (const std::string& content : {parts.bos, parts.eos, parts.unk, parts.pad}) {
    const bool known = std::any_of(parts.added.begin(), parts.added.end(),
                                   [&](const ClipAddedToken& t) { return t.content == content; });
    const auto found = parts.vocabulary.ids.find(content);
    if (!known && found != parts.vocabulary.ids.end()) parts.added.push_back({found->second, content, false});
  }
}

}  // namespace

ClipTokenizerParts read_clip_tokenizer(const std::string& folder) {
  ClipTokenizerParts parts;
  const auto path = [&](const char* name) { return folder + "/" + name; };
  const auto exists = [&](const char* name) {
    std::error_code ignored;
    return fs::exists(path(name), ignored);
  };
  if (exists("vocab.json") && exists("merges.txt")) {
    read_pieces(base::read_json_file(path("vocab.json"), kMaxFileBytes), "vocab.json", parts.vocabulary);
    read_merges_text(path("merges.txt"), parts.vocabulary);
  } else if (exists("tokenizer.json")) {
    read_tokenizer_json(path("tokenizer.json"), parts);
  } else {
    throw base::Error(base::ExitCode::no_input,
                      fmt::format("{}: no CLIP tokenizer (tokenizer.json, or vocab.json and merges.txt)", folder));
  }
  if (exists("special_tokens_map.json")) read_roles(path("special_tokens_map.json"), parts);
  if (exists("tokenizer_config.json")) {
    read_roles(path("tokenizer_config.json"), parts);
    read_config(path("tokenizer_config.json"), parts);
  }
  if (exists("added_tokens.json")) read_added_tokens(path("added_tokens.json"), parts);
  add_special_tokens(parts);
  return parts;
}

ClipTokenizerParts builtin_clip_tokenizer(bool zero_pad) {
  ClipTokenizerParts parts;
  ClipVocabulary& vocabulary = parts.vocabulary;
  // The order of the original vocabulary: printable bytes first, then the others; the same again as ends of words.
  std::vector<std::string> bytes;
  for (const bool printable : {true, false})
    for (char32_t b = 0; b < 256; ++b) {
      if ((byte_spellings()[b] == b) != printable) continue;
      append_utf8(bytes.emplace_back(), byte_spellings()[b]);
    }
  for (const char* end : {"", "</w>"})
    for (const std::string& byte : bytes) add_piece(vocabulary, byte + end);
  vocabulary.merges.reserve(kBuiltinMerges);
  for (std::size_t rank = 0; rank < kBuiltinMerges; ++rank) {
    const unsigned char* entry = atelier_clip_merges + 4 * rank;
    const TokenId left = entry[0] | entry[1] << 8, right = entry[2] | entry[3] << 8;
    const auto merged = static_cast<TokenId>(vocabulary.pieces.size());
    add_piece(vocabulary,
              vocabulary.pieces[static_cast<std::size_t>(left)] + vocabulary.pieces[static_cast<std::size_t>(right)]);
    vocabulary.merges[ClipVocabulary::merge_key(left, right)] = {static_cast<std::uint32_t>(rank), merged};
  }
  add_piece(vocabulary, parts.bos);
  add_piece(vocabulary, parts.eos);
  // As in openai/clip-vit-large-patch14: the start token is looked for in the lower-cased text.
  parts.added = {{static_cast<TokenId>(vocabulary.pieces.size() - 2), parts.bos, true},
                 {static_cast<TokenId>(vocabulary.pieces.size() - 1), parts.eos, false}};
  if (zero_pad) {
    parts.pad = "!";
    parts.added.push_back({0, "!", false});
  }
  return parts;
}

}  // namespace atelier::text
