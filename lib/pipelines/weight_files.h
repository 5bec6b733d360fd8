#pragma once

#include <memory>
#include <string>

#include "io/weight_source.h"

/// Files of image models, wherever a flag names them.
namespace atelier::pipelines {

bool exists(const std::string& path);
bool is_folder(const std::string& path);

/// A file of weights: safetensors, or through the restricted reader of torch.save files. Error(no_input), Error(data).
std::shared_ptr<io::WeightSource> open_weights_file(const std::string& path);

/// Weights in a component's folder: plain ones first, else the variant that is there ("model.fp16.safetensors"), else
/// what older folders have, a torch.save file ("diffusion_pytorch_model.bin", "pytorch_model.bin"). `stem`: "model",
/// "diffusion_pytorch_model".
std::shared_ptr<io::WeightSource> open_weights_folder(const std::string& folder, const std::string& stem);

}  // namespace atelier::pipelines
