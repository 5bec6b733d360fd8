#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/seed.h"
#include "image/image.h"
#include "text/clip_tokenizer.h"
#include "train/image/report.h"
#include "train/image/sources.h"

namespace atelier::train::image {

/// A picture with what is known of it.
struct PictureEntry {
  std::string path, mask_path;      ///< mask_path: empty where no file has its mask
  std::string caption;              ///< as read, or the subset's class_tokens
  std::string sha256, mask_sha256;  ///< of the files
  Size size;                        ///< as shown
  BucketFit fit;
  bool has_alpha = false;  ///< some pixel is not opaque
  std::size_t group = 0, subset = 0;
};

struct ScanOptions {
  bool masks = false;                                         ///< look for masks
  bool strict = false;                                        ///< a picture that cannot be used is an error
  std::shared_ptr<const text::ClipTokenizer> tokenizer = {};  ///< to find captions that are cut; null: not looked for
};

/// Reads and decodes every picture of the groups, with its caption and mask, in the order of folders and names. What cannot
/// be used is left out: `report` gets a finding (with `strict` it is Error(data)), and stderr one line for all. `report` also
/// gets what else is remarkable. Looks at the stop flag, shows progress.
std::vector<PictureEntry> scan_pictures(const std::vector<SubsetGroup>& groups, const ScanOptions& options,
                                        DataReport& report);

/// A picture as it is trained on: resized, mirrored, cut to its bucket.
struct CutPicture {
  atelier::image::Image picture;  ///< RGB
  atelier::image::Mask mask;      ///< of the same size; empty where there is none
  int left = 0, top = 0;          ///< of the cut, in the resized and mirrored picture
};

/// Reads a picture again. `crop`: draws where it is cut; null: in the middle. `masks`: whether to look for its mask, which with
/// `alpha_mask` or transparent pixels is the alpha channel. Resized by Lanczos' filter, masks by their mean, as Pillow
/// does. Error(data) where a file is not what it was when it was scanned.
CutPicture cut_picture(const PictureEntry& entry, bool mirrored, base::Generator* crop, bool masks, bool alpha_mask);

/// (3, H, W) f32 in [-1, 1]: (x / 255 - 0.5) / 0.5, as diffusers' training scripts.
at::Tensor to_pixels(const atelier::image::Image& picture);

/// (1, H / downscale, W / downscale) f32 in [0, 1], each the mean of its pixels; ones of `size` where the mask is empty.
at::Tensor to_latent_mask(const atelier::image::Mask& mask, Size size, int downscale);

}  // namespace atelier::train::image
