#pragma once

#include <string>
#include <vector>

#include "models/unet/config.h"
#include "models/vae/autoencoder.h"

/// Where the original layout keeps what diffusers names otherwise: one function for each kind of model. All names are without
/// the part's prefix.
namespace atelier::models::single_file {

/// How a stored tensor becomes the wanted one.
enum class Change {
  none,
  third_of_rows,  ///< OpenCLIP's fused in_proj: `index` 0 query, 1 key, 2 value
  transpose,      ///< OpenCLIP's text_projection, stored (in, out)
  flatten,        ///< 1x1 convolutions that diffusers has as linear maps: (out, in, 1, 1) -> (out, in)
};

struct Stored {
  std::string name;
  Change change = Change::none;
  std::int64_t index = 0;
};

/// `input_blocks.`, `middle_block.`, `output_blocks.`; "" for a name that is not of a UNet.
Stored unet_stored(const unet::Config& config, const std::string& name);

/// `encoder.down.`, `mid.attn_1.`, ... `levels`: of the autoencoder.
Stored vae_stored(std::size_t levels, const std::string& name);

/// OpenCLIP's text tower: `transformer.resblocks.`, `ln_final`, ...
Stored open_clip_stored(const std::string& name);

}  // namespace atelier::models::single_file
