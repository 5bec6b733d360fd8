#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "image/image.h"

namespace atelier::metrics {

/// How pictures are brought to the square that a vision tower takes.
struct ClipPreparation {
  enum class Fit {
    as_configured,  ///< preprocessor_config.json: the short side resized, the middle used
    torchvision,    ///< the same, with torchvision's middle: of an odd rest half to even (ImageReward)
    pad,            ///< the long side resized, the rest black (HPSv2)
  };
  Fit fit = Fit::as_configured;
  std::int64_t resize_width = 0, resize_height = 0;  ///< 0: by the short side
  std::int64_t shortest_edge = 224, crop_width = 224, crop_height = 224;
  double mean[3] = {0.48145466, 0.4578275, 0.40821073}, deviation[3] = {0.26862954, 0.26130258, 0.27577711};
  double rescale = 1.0 / 255;
  int filter = 3;  ///< Pillow's number: 3 bicubic
};

/// How the preprocessor_config.json of `folder` wants pictures, for a tower that takes `side` x `side`; without one CLIP's numbers.
/// Error(data) where it is malformed, asks for what is not known, or does not suit the tower.
ClipPreparation open_preparation(const std::string& folder, std::int64_t side);

/// A picture resized and cut (or padded): bytes (S, S, 3).
at::Tensor prepare_picture(const image::Image& rgb, const ClipPreparation& preparation);

/// B prepared pictures, normalised: (B, 3, S, S) f32 on the device.
at::Tensor normalise_pictures(const std::vector<at::Tensor>& prepared, const ClipPreparation& preparation,
                              at::Device device);

}  // namespace atelier::metrics
