#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pipelines/model_folder.h"
#include "pipelines/text_model.h"

namespace atelier::pipelines {

/// Stretches of a text, each with BOS in front.
using TextWindows = std::vector<std::vector<text::TokenId>>;

/// Cuts texts into windows of up to `length` tokens, the last one of each what is left of it; at most `most` tokens in all. Control
/// tokens that they spell are control tokens, so that a chat model can be shown its turns. Error(data), naming `what`, where none has
/// two tokens.
TextWindows text_windows(const TextModel& model, const std::vector<std::string>& texts, std::int64_t length,
                         std::int64_t most, const std::string& what);

/// Quantises a dense network in place, layer by layer by nn::quantise_gptq: each layer's weights with what reaches them through the
/// quantised layers below. `after_layer` gets the number of layers done, the head being the last of layers + 1.
void quantise_calibrated(models::gemma::CausalLm& network, const nn::GroupQuantisation& quantisation, const TextWindows& windows,
                         const std::function<void(std::int64_t)>& after_layer = {});

/// How far one model's predictions are from another's over a text.
struct Divergence {
  std::int64_t tokens = 0;          ///< that were predicted
  double kl = 0;                    ///< mean of sum p (log p - log q), p the reference's
  double perplexity = 0;            ///< of the text by the model
  double reference_perplexity = 0;  ///< and by the reference
  double same_top = 0;              ///< share of the tokens whose most likely choice is the same
};
/// Both models must have the same vocabulary. Error(condition) where logits are not finite.
Divergence compare_models(const TextModel& model, const TextModel& reference, const TextWindows& windows);

/// The tensors of a quantised network as a folder holds them: the parts of packed weights under the weight's name with a suffix
/// (nn::GroupQuantisedWeight), the others as they are.
std::vector<FolderTensor> quantised_tensors(const models::gemma::CausalLm& network);

}  // namespace atelier::pipelines
