#pragma once

#include <map>
#include <string>

#include "text/clip_tokenizer.h"

namespace atelier::text {

/// The files of a CLIP tokenizer's folder by their names: vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json, as
/// transformers and read_clip_tokenizer read them.
std::map<std::string, std::string> clip_tokenizer_files(const ClipTokenizerParts& parts);

}  // namespace atelier::text
