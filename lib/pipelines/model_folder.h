#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "pipelines/text_model.h"

namespace atelier::pipelines {

/// A tensor of a folder that is to be written, made when its turn comes.
struct FolderTensor {
  std::string name;  ///< of the module tree
  std::vector<std::int64_t> shape;
  at::ScalarType dtype;
  std::function<at::Tensor()> make;
};

/// All weights of a network in its own format, with every adapter that sits in it merged in: dense + delta, rounded once.
/// A quantised weight is taken as it computes. Where the head is tied to the embedding and one of them has an adapter, both
/// are listed, for an adapter changes only the one that it is on.
std::vector<FolderTensor> merged_tensors(const models::gemma::CausalLm& network);

/// Writes a model folder as transformers and the tools load it: the tensors by the names that the origin's checkpoint has for
/// them, what else that checkpoint holds (a vision tower) as it is, config.json with the new format (and
/// `tie_word_embeddings` false where the tensors have a head that was tied), and the origin's tokenizer, template and generation
/// files. Files of up to 2 GB, so that as much is in memory at a time. Each file whole or not at all, config.json last.
/// Error(cannot_create), Error(io).
void write_model_folder(const std::string& folder, const TextModelFiles& origin,
                        const std::vector<FolderTensor>& tensors);

/// The files that write_model_folder may make in a folder, config.json first: for taking them away again.
std::vector<std::string> model_folder_files(const std::string& folder);

}  // namespace atelier::pipelines
