#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "text/clip_tokenizer.h"
#include "text/weighted_prompt.h"

namespace atelier::text {

/// A textual-inversion embedding as prompts name it.
struct EmbeddingName {
  std::string name;
  std::int64_t vectors = 1;  ///< tokens that it stands for
};

/// A place of a chunk that a vector of an embedding takes.
struct EmbeddedToken {
  std::size_t position = 0;   ///< in PromptChunk::ids
  std::size_t embedding = 0;  ///< which of the names
  std::int64_t row = 0;       ///< which of its vectors
};

/// What the text encoder sees at once: start, up to 75 tokens, end, padding.
struct PromptChunk {
  std::vector<TokenId> ids;     ///< tokenizer.max_length() of them; tokens of embeddings have ids beyond the vocabulary
  std::vector<double> weights;  ///< one for each id; 1 for start, end and padding
  std::vector<EmbeddedToken> embedded;

  bool weighted() const;  ///< any weight is not 1
};

/// Cuts a prompt into chunks of max_length - 2 tokens each; BREAK fills a chunk up and begins the next. Each part is
/// tokenised by itself. The names of embeddings are found in any case of letters, where they are not part of a word; one
/// that does not fit into what is left of a chunk begins the next. At least one chunk. Error(data) where an embedding has
/// more vectors than a chunk has room, or above 1,000 chunks.
std::vector<PromptChunk> chunk_prompt(const ClipTokenizer& tokenizer, std::span<const PromptPart> parts,
                                      std::span<const EmbeddingName> embeddings = {});

/// The chunk of an empty prompt.
PromptChunk empty_chunk(const ClipTokenizer& tokenizer);

}  // namespace atelier::text
