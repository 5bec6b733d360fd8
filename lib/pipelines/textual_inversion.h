#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pipelines/prompt_encoding.h"

namespace atelier::pipelines {

/// Reads a textual-inversion embedding for a model's text encoders, from safetensors or through the restricted reader of
/// torch.save files: one tensor of any name (diffusers: the token), "emb_params" (A1111), "string_to_param" (the original
/// .pt), or "clip_l" and "clip_g" (SDXL). Each tensor, (vectors, hidden) or
/// (hidden), goes to the text encoder with its hidden size; prompts call it by the file's name without ending, and by
/// diffusers' token. Error(data): another layout, a size that no text encoder has.
std::shared_ptr<const TextualInversion> read_textual_inversion(const std::string& path, const ImageModelFiles& model);

/// Writes an embedding that diffusers, A1111 and ComfyUI read, whole or not at all: with one text encoder a tensor called
/// `token`, (vectors, hidden); with two "clip_l" and "clip_g". `vectors`: by text encoder. Error(cannot_create), Error(io).
void write_textual_inversion(const std::string& path, const std::string& token, const std::vector<at::Tensor>& vectors,
                             at::ScalarType dtype = at::kFloat);

/// The files with a known ending in a folder, by name. Error(no_input) where it cannot be read.
std::vector<std::string> embedding_files(const std::string& folder);

}  // namespace atelier::pipelines
