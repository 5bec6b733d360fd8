#pragma once

#include <memory>
#include <string>

#include "base/json.h"
#include "io/weight_source.h"
#include "models/controlnet/config.h"
#include "models/single_file/layout.h"

namespace atelier::models::controlnet {

/// A ControlNet that lies in one file without its config.json.
struct File {
  base::Json config;                          ///< diffusers' config.json, read off the tensors' shapes
  std::shared_ptr<io::WeightSource> weights;  ///< under diffusers' names
};

/// Recognises a file in diffusers' layout (`controlnet_cond_embedding.`) or in the original one (`input_hint_block.`,
/// `zero_convs.`, alone or behind `control_model.` inside a whole checkpoint). What shapes do not tell is as in the published
/// models: 8 heads of SD 1, heads of 64 channels otherwise. Error(data) where it is of another kind; those that users may take
/// for one (unions, Control-LoRA, differences to a model, ControlNet-LLLite, T2I adapters) are named.
File open_file(std::shared_ptr<io::WeightSource> file);

/// Where the original layout keeps a parameter, without prefix; "" for a name that is not of a ControlNet.
single_file::Stored original_stored(const Config& config, const std::string& name);

}  // namespace atelier::models::controlnet
