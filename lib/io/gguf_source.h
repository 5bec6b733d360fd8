#pragma once

#include <functional>
#include <memory>
#include <string>

#include "io/gguf.h"
#include "io/weight_source.h"

namespace atelier::io {

/// What a model calls a tensor of a GGUF file, and what is taken off its numbers (Gemma's norms are stored with 1 added).
struct GgufName {
  std::string name;
  float less = 0;
};

/// The tensors of a GGUF file by the names of a checkpoint. F32, F16 and BF16 tensors of which nothing is taken off share the
/// mapped pages where the type fits; all others are decoded by load(), on LibTorch's number of threads, and rounded once.
/// info() says BF16 of the quantised types: what they are decoded to where nothing else is asked for.
/// Error(data) where two tensors get the same name.
std::shared_ptr<WeightSource> open_gguf_source(std::shared_ptr<const GgufFile> file,
                                               const std::function<GgufName(const std::string&)>& name_of);

}  // namespace atelier::io
