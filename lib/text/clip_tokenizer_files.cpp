#include "text/clip_tokenizer_files.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/json.h"

namespace atelier::text {
namespace {

using base::Json;

/// By their ids, as tokenizer_config.json lists them.
Json added_tokens(const std::vector<ClipAddedToken>& added) {
  Json tokens = Json::object();
  for (const ClipAddedToken& token : added)
    tokens[std::to_string(token.id)] = {{"content", token.content}, {"lstrip", false},      {"normalized", token.normalized},
                                        {"rstrip", false},          {"single_word", false}, {"special", true}};
  return tokens;
}

/// One merge a line, the first to be made first, below a line that readers skip.
std::string merges_text(const ClipVocabulary& vocabulary) {
  std::vector<std::pair<std::uint32_t, std::uint64_t>> ordered;  // rank, key
  for (const auto& [key, merge] : vocabulary.merges) ordered.emplace_back(merge.rank, key);
  std::sort(ordered.begin(), ordered.end());
  std::string text = "#version: 0.2\n";
  for (const auto& [rank, key] : ordered) {
    const auto left = static_cast<std::uint32_t>(key >> 32), right = static_cast<std::uint32_t>(key);
    text += vocabulary.pieces[left] + " " + vocabulary.pieces[right] + "\n";
  }
  return text;
}

}  // namespace

std::map<std::string, std::string> clip_tokenizer_files(const ClipTokenizerParts& parts) {
  Json pieces = Json::object();
  for (std::size_t id = 0; id < parts.vocabulary.pieces.size(); ++id) pieces[parts.vocabulary.pieces[id]] = id;
  const Json special = {
      {"bos_token", parts.bos}, {"eos_token", parts.eos}, {"pad_token", parts.pad}, {"unk_token", parts.unk}};
  const Json config = {{"tokenizer_class", "CLIPTokenizer"},
                       {"add_prefix_space", false},
                       {"added_tokens_decoder", added_tokens(parts.added)},
                       {"bos_token", parts.bos},
                       {"do_lower_case", true},
                       {"eos_token", parts.eos},
                       {"errors", "replace"},
                       {"model_max_length", parts.max_length},
                       {"pad_token", parts.pad},
                       {"unk_token", parts.unk}};
  return {{"vocab.json", base::dump_json(pieces)},
          {"merges.txt", merges_text(parts.vocabulary)},
          {"special_tokens_map.json", special.dump(2) + "\n"},
          {"tokenizer_config.json", config.dump(2) + "\n"}};
}

}  // namespace atelier::text
