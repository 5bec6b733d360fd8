#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "models/unet/config.h"

namespace atelier::models::controlnet {

/// diffusers' ControlNetModel, decided once.
struct Config {
  unet::Config encoder;       ///< the way down and the middle of the UNet that it was made from; the way up is not used
  bool mid_attention = true;  ///< mid_block_type UNetMidBlock2DCrossAttn, else UNetMidBlock2D
  std::vector<std::int64_t> embedding_channels{16, 32, 96, 256};  ///< conditioning_embedding_out_channels
  bool bgr = false;                                               ///< controlnet_conditioning_channel_order
  bool global_pool =
      false;  ///< residuals are averaged over their pixels, and guidance's negative half gets none (shuffle)

  /// Pixels of the picture for each latent along each side.
  std::int64_t downscale() const { return std::int64_t{1} << (embedding_channels.size() - 1); }
};

/// Reads config.json. Defaults are the class's; every field is range-checked, and a key that is unknown or has a value that is
/// not supported is Error(data) naming it. `what` names the file.
Config parse_config(const base::Json& json, const std::string& what);

/// Why residuals of such a ControlNet cannot be added to such a UNet: "it has 4 levels, the UNet 3"; "" where they can.
std::string mismatch(const Config& config, const unet::Config& unet);

}  // namespace atelier::models::controlnet
