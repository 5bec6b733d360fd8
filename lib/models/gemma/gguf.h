#pragma once

#include <memory>
#include <string>

#include "base/json.h"
#include "io/gguf.h"
#include "io/weight_source.h"

namespace atelier::models::gemma {

/// Gemma 1, 2 and 3 in GGUF files (architectures gemma, gemma2, gemma3; the text part of the multimodal ones is a file of its
/// own there).

/// config.json as a Hugging Face folder of the same model has it, for parse_config. What the metadata leave out is said as
/// the formats' readers take it: the scale of Gemma 2 and 3 27B, known by their layers, is of hidden_size / heads, all others'
/// of head_dim; Gemma 3 has no soft caps. Error(data): another architecture, a missing or malformed entry.
base::Json config_from_gguf(const io::GgufHeader& header, const std::string& what);

/// The tensors by their Hugging Face names, with the 1 taken off the norms that these files add to it.
std::shared_ptr<io::WeightSource> gguf_weights(std::shared_ptr<const io::GgufFile> file);

}  // namespace atelier::models::gemma
