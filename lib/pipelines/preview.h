#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

#include "image/image.h"
#include "pipelines/image_model.h"

namespace atelier::pipelines {

/// Pictures of unfinished latents: in full size with a TAESD; without one small, at almost no cost: each latent pixel becomes
/// one colour by an affine map, which is fitted to the model's own autoencoder by decoding a few random latents once.
class LatentPreview {
 public:
  /// `vae`: a TAESD's folder or file beside its config.json (or another autoencoder's), or "". Error(data) where its latents are
  /// of another kind than the model's.
  explicit LatentPreview(const ImageModel& model, const std::string& vae = {});

  /// latents: (channels, h, w), scaled as the UNet has them. Result: RGB.
  image::Image draw(const at::Tensor& latents) const;

 private:
  void fit(const ImageModel& model);

  std::shared_ptr<models::vae::Autoencoder> vae_;  ///< null: the map
  at::Tensor map_;                                 ///< (channels + 1, 3) f32 on the CPU; the last row is the constant
  std::int64_t enlarge_ = 1;                       ///< pixels for each latent of the map's pictures
};

}  // namespace atelier::pipelines
