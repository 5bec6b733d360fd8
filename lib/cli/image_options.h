#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/common.h"
#include "cli/jobs.h"
#include "image/soft_inpaint.h"

namespace atelier::cli {

enum class ImageTask { txt2img, img2img, inpaint };

inline constexpr std::int64_t kSmallestUpscaleTile = 96;

/// Everything that sd-txt2img, sd-img2img and sd-inpaint can be told (CLI.md, "sd-txt2img"). A job of --jobs works on a copy.
struct ImageOptions {
  CommonOptions common;

  std::optional<std::string> prompt, negative;
  std::string output;
  std::int64_t width = 0, height = 0;  ///< 0: the model's own size, or the given picture's
  std::int64_t steps = 20, count = 1, batch_size = 1;
  double cfg_scale = 7.5;
  std::string sampler, schedule, weighting = "a1111";
  std::optional<std::int64_t> clip_skip;
  std::string vae, tokenizer, embedding_dir, lora_dir;
  std::vector<std::string> embeddings, loras;
  bool strict = false, vae_tiling = false, keep_nan = false;
  std::string preview, preview_vae, reproduce, dump_tensors;
  std::int64_t preview_every = 5;
  double hires = 1, hires_strength = 0.5;
  std::vector<std::string> controls, control_prepare, control_start, control_end;  ///< the latter as numbers
  std::int64_t canny_low = 100, canny_high = 200;
  std::string upscale;
  std::int64_t upscale_tile = 256;
  std::string hires_upscaler = "lanczos";

  // sd-img2img, sd-inpaint
  std::string init, strength_schedule, resize_mode = "stretch", colour_match = "none";
  double strength = 0.75;

  // sd-inpaint
  std::string mask, mask_svg, masked_content = "original", blend = "normal";
  std::vector<std::string> mask_shapes;
  bool invert_mask = false, only_masked = false;
  std::int64_t grow = 0, padding = 32;
  double feather = 4;
  bool soft_inpaint = false;
  image::SoftInpaint soft;
};

/// What --hires-upscaler knows: filters of pixels, then "latent" and "latent-..." (pipelines/latent_resize.h).
std::vector<std::string> hires_upscalers();

/// Binds the flags that the task has.
void define_image_flags(CLI::App& app, ImageOptions& options, ImageTask task);

/// What a job may not set.
JobRules image_job_rules();

/// The options that decide a picture, as a job's fields; seed and size as they were in the end. The "atelier" metadata
/// carries them, and --reproduce reads them.
base::Json picture_settings(const ImageOptions& options, ImageTask task);

}  // namespace atelier::cli
