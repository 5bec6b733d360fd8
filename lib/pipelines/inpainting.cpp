#include "pipelines/inpainting.h"

#include <algorithm>

#include "base/error.h"
#include "image/filter.h"
#include "image/mask.h"
#include "image/resize.h"
#include "pipelines/pixels.h"

namespace atelier::pipelines {
namespace {

constexpr float kSoftBlur = 4;  // of the picture's soft mask, A1111's

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// The picture with its last column and row repeated.
image::Image extended(const image::Image& picture, std::int64_t width, std::int64_t height) {
  image::Image result(static_cast<int>(width), static_cast<int>(height), picture.channels);
  for (int y = 0; y < result.height; ++y)
    for (int x = 0; x < result.width; ++x)
      std::copy_n(picture.at(std::min(x, picture.width - 1), std::min(y, picture.height - 1)), picture.channels,
                  result.at(x, y));
  return result;
}

}  // namespace

InpaintFrame::InpaintFrame(image::Image original, image::Mask mask, const InpaintOptions& options, std::int64_t width,
                           std::int64_t height, std::int64_t multiple)
    : original_(std::move(original)), options_(options) {
  if (image::bounding_box(mask).empty())
    throw base::Error(base::ExitCode::data, "the mask covers nothing: there is nothing to repaint");
  feathered_ = image::feather(mask, options.feather);
  box_ = {0, 0, original_.width, original_.height};
  if (options.only_masked) {
    box_ = image::crop_region(mask, options.padding, static_cast<int>(width), static_cast<int>(height));
    work_ = image::resize(image::crop(original_, box_), static_cast<int>(width), static_cast<int>(height));
    work_mask_ = image::resize(image::crop(mask, box_), static_cast<int>(width), static_cast<int>(height));
    work_feathered_ = image::resize(image::crop(feathered_, box_), static_cast<int>(width), static_cast<int>(height));
  } else {
    const std::int64_t w = round_up(box_.width, multiple), h = round_up(box_.height, multiple);
    work_ = extended(original_, w, h);
    work_mask_ = extended(mask, w, h);
    work_feathered_ = extended(feathered_, w, h);
  }
}

PictureInput InpaintFrame::input(double strength) const {
  PictureInput input;
  input.picture = to_tensor(work_);
  input.mask = to_tensor(work_mask_, 128);
  input.masked_content = options_.masked_content;
  if (options_.masked_content == MaskedContent::fill) input.start = to_tensor(image::fill_masked(work_, work_mask_));
  input.strength = strength;
  if (options_.soft) {
    input.soft = *options_.soft;
    input.soft_mask = image::to_float(work_feathered_);
  }
  return input;
}

image::Image InpaintFrame::worked_part(const image::Image& scene, image::ResizeMode mode) const {
  const image::Image whole = image::fit(scene, original_.width, original_.height, mode);
  return options_.only_masked ? image::crop(whole, box_) : extended(whole, work_.width, work_.height);
}

/// The feathered mask, lowered where the soft mask shows less. The soft mask is by latent pixels of the working picture.
image::Mask InpaintFrame::mask_with(const image::FloatImage& soft_mask) const {
  if (soft_mask.empty()) return feathered_;
  image::Mask shown = image::to_bytes(image::resize(soft_mask, work_.width, work_.height, image::Filter::bilinear));
  shown = image::gaussian_blur(shown, kSoftBlur);
  if (options_.only_masked) {
    image::Mask whole(original_.width, original_.height, 1);
    image::paste(whole, image::resize(shown, box_.width, box_.height), box_.left, box_.top);
    shown = std::move(whole);
  }
  image::Mask mask = feathered_;
  for (int y = 0; y < mask.height; ++y)
    for (int x = 0; x < mask.width; ++x) *mask.at(x, y) = std::min(*mask.at(x, y), *shown.at(x, y));
  return mask;
}

image::Image InpaintFrame::finish(const image::Image& painted, const image::FloatImage& soft_mask) const {
  image::Image whole = original_;
  if (options_.only_masked)
    image::paste(whole, image::resize(painted, box_.width, box_.height), box_.left, box_.top);
  else
    image::paste(whole, painted, 0, 0);
  return image::blend(original_, whole, mask_with(soft_mask), options_.blend);
}

}  // namespace atelier::pipelines
