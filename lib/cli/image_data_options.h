#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/output.h"
#include "text/clip_tokenizer.h"
#include "train/image/dataset.h"

namespace atelier::cli {

/// What the trainers of image models can be told of their pictures.
struct ImageDataOptions {
  std::string data, resolution, caption_extension, keep_separator, cache_dir, contact_sheet;
  bool buckets = false, no_upscale = false, flip = false, random_crop = false;
  std::int64_t bucket_step = 0, min_bucket = 0, max_bucket = 0;  ///< 0: from the resolution
  bool shuffle_captions = false, wildcards = false;
  std::int64_t keep_tokens = 0;
  double caption_dropout = 0, tag_dropout = 0, prior_weight = 1;
  bool masked_loss = false, cache_latents = false, strict = false, check = false;
};

/// --data, which sd-dreambooth has not.
void add_data_flag(CLI::App& app, ImageDataOptions& options);
/// --resolution, --buckets and what follows from them.
void add_bucket_flags(CLI::App& app, ImageDataOptions& options);
/// --shuffle-captions and other flags of captions.
void add_caption_flags(CLI::App& app, ImageDataOptions& options);
/// --flip, --random-crop, --masked-loss, --cache-latents, --cache-dir, --prior-weight, --strict-data, --check,
/// --contact-sheet.
void add_picture_flags(CLI::App& app, ImageDataOptions& options);

/// Sizes as the flags say: --resolution N or WxH, else the model's own; a bucket's sides from half to twice that, in steps of
/// an eighth of it or 64. Error(usage).
train::image::BucketOptions bucket_options(const ImageDataOptions& options, std::int64_t native_size);

/// What holds for all pictures unless a TOML file says otherwise.
train::image::SourceDefaults source_defaults(const ImageDataOptions& options, std::int64_t native_size,
                                             std::int64_t batch_size);

train::image::ImageDatasetOptions dataset_options(const ImageDataOptions& options, std::uint64_t seed,
                                                  std::int64_t accumulation, std::int64_t downscale,
                                                  std::shared_ptr<const text::ClipTokenizer> tokenizer);

/// Flags that do not go together: Error(usage).
void check_data_flags(const ImageDataOptions& options);

/// --check: prints the report, as JSON or as text, and writes the contact sheet to --contact-sheet, or to `sheet`. Returns
/// the exit code: 0, or 3 where pictures are left out.
int report_data(const train::image::ImageDataset& data, const ImageDataOptions& options, const std::string& sheet,
                bool json, Output& output);

}  // namespace atelier::cli
