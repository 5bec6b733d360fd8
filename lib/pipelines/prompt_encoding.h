#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipelines/image_model.h"
#include "text/prompt_chunks.h"

namespace atelier::pipelines {

/// How the weights of a prompt's parts act on what the text encoder gives.
enum class Weighting {
  a1111,  ///< z * w, then the chunk's mean restored
  comfy,  ///< (z - z_empty) * w + z_empty
  none,   ///< brackets and BREAK are ordinary text
};

/// A textual-inversion embedding, a tensor for each text encoder that it serves.
struct TextualInversion {
  std::string path;
  std::vector<std::string> names;   ///< how prompts may call it
  std::vector<at::Tensor> vectors;  ///< by text encoder, (vectors, hidden) in f32; undefined: not for this encoder
};

struct PromptEncodingOptions {
  Weighting weighting = Weighting::a1111;
  std::optional<std::int64_t>
      clip_skip;  ///< A1111's count: 1 is the last layer, 2 the last but one; left out: the family's
  std::vector<std::shared_ptr<const TextualInversion>> embeddings;
};

/// What the UNet is told of one prompt.
struct Conditioning {
  at::Tensor context;       ///< (1, T, context size), T a multiple of 77
  at::Tensor pooled;        ///< SDXL: (1, projection); undefined otherwise
  std::int64_t tokens = 0;  ///< of the first text encoder, without start, end and padding
};

/// Encodes a prompt without LoRA tags: weights, BREAK, chunks, embeddings, clip-skip as `options` say. The unweighted prompt
/// of one chunk gives what diffusers' encode_prompt gives. `warnings` receives a line for each bracket that is taken as text.
/// Error(usage) for a clip-skip beyond the encoder's layers.
Conditioning encode_prompt(const ImageModel& model, std::string_view prompt, const PromptEncodingOptions& options,
                           std::vector<std::string>& warnings);

/// SDXL's absent negative prompt: zeros in the shape of `like`.
Conditioning zero_conditioning(const Conditioning& like);

}  // namespace atelier::pipelines
