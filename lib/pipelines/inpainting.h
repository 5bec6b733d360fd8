#pragma once

#include <cstdint>
#include <optional>

#include "image/blend.h"
#include "image/image.h"
#include "image/resize.h"
#include "image/soft_inpaint.h"
#include "pipelines/diffusion.h"

namespace atelier::pipelines {

struct InpaintOptions {
  float feather = 4;  ///< pixels to both sides of the mask's edge
  MaskedContent masked_content = MaskedContent::original;
  bool only_masked = false;
  int padding = 32;  ///< pixels around the mask that only_masked takes in
  image::BlendMode blend = image::BlendMode::normal;
  std::optional<image::SoftInpaint> soft;  ///< grey levels of the feathered mask count over the steps
};

/// Brings a picture and its mask to what the model works on, and the painted result back: pixels that the feathered mask does
/// not reach are returned as they were, bit for bit.
class InpaintFrame {
 public:
  /// `original` is RGB and `mask` of its size. only_masked works on the mask's surroundings at width x height; otherwise the
  /// model works on the whole picture, its edge pixels repeated up to multiples of `multiple`. Error(data) for a mask that covers
  /// nothing.
  InpaintFrame(image::Image original, image::Mask mask, const InpaintOptions& options, std::int64_t width,
               std::int64_t height, std::int64_t multiple);

  std::int64_t width() const { return work_.width; }
  std::int64_t height() const { return work_.height; }
  /// Of what finish() gives.
  std::int64_t finished_width() const { return original_.width; }
  std::int64_t finished_height() const { return original_.height; }
  const image::Mask& feathered() const { return feathered_; }
  PictureInput input(double strength) const;
  /// Of another picture of the same scene the part that is worked on: brought to the original's size by `mode`, then cut out as
  /// only_masked wants it, or its edge pixels repeated likewise.
  image::Image worked_part(const image::Image& scene, image::ResizeMode mode) const;
  /// The original with a painted picture of width() x height() blended in. `soft_mask`: the run's own with soft inpainting, by
  /// latent pixels; it only ever takes away from the mask.
  image::Image finish(const image::Image& painted, const image::FloatImage& soft_mask = {}) const;

 private:
  image::Mask mask_with(const image::FloatImage& soft_mask) const;

  image::Image original_;
  image::Mask feathered_;  ///< of the original's size
  InpaintOptions options_;
  image::Box box_;     ///< what is worked on
  image::Image work_;  ///< that part, at the model's size
  image::Mask work_mask_, work_feathered_;
};

}  // namespace atelier::pipelines
