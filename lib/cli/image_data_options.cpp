#include "cli/image_data_options.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/validators.h"
#include "image/write.h"
#include "io/file_system.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;
using train::image::BucketOptions;
using train::image::DataReport;
using train::image::Finding;
using train::image::ImageDataset;
using train::image::Problem;
using train::image::Size;

constexpr int kMaxSide = 1 << 14;
constexpr std::size_t kShownFindings = 20;  // of each problem, without --json

void in_group(const std::string& group, std::initializer_list<CLI::Option*> options) {
  for (CLI::Option* option : options) option->group(group);
}

CLI::Option* side(CLI::App& app, const std::string& name, std::int64_t& target, const std::string& text) {
  return app.add_option(name, target, text)->check(whole_in_range(8, kMaxSide))->type_name("N")->default_str("");
}

CLI::Option* share(CLI::App& app, const std::string& name, double& target, const std::string& text) {
  return app.add_option(name, target, text)->check(in_range(0, 1))->type_name("X")->capture_default_str();
}

/// "512" or "768x512".
Size parse_resolution(const std::string& text) {
  Size size;
  const char *at = text.data(), *end = at + text.size();
  const auto number = [&](int& value) {
    const auto [stop, error] = std::from_chars(at, end, value);
    at = stop;
    return error == std::errc() && value >= 8 && value <= kMaxSide;
  };
  bool good = number(size.width);
  size.height = size.width;
  if (good && at != end) good = *at++ == 'x' && number(size.height);
  if (!good || at != end)
    throw Error(ExitCode::usage,
                fmt::format("--resolution {}: is neither a side nor WIDTHxHEIGHT, of 8 to {} pixels", text, kMaxSide));
  return size;
}

const char* described(Problem problem) {
  switch (problem) {
    case Problem::unreadable: return "cannot be used";
    case Problem::tiny: return "are small for their bucket";
    case Problem::duplicate: return "are there twice";
    case Problem::no_caption: return "have no caption";
    case Problem::caption_cut: return "have captions longer than the text encoder reads";
    case Problem::wildcards_unused: return "have wildcards, which are off (--wildcards)";
    case Problem::transparent: return "are transparent in part (--masked-loss leaves that out)";
  }
  return "";
}

std::string report_text(const DataReport& report) {
  std::string text =
      fmt::format("pictures: {}; trained on: {}, of which {} of the class; an epoch: {} pictures, {} batches\n",
                  report.found, report.kept, report.class_pictures, report.draws, report.batches);
  for (const auto& bucket : report.buckets)
    text += fmt::format("bucket {}x{}: {} pictures, {} an epoch, {} batches\n", bucket.size.width, bucket.size.height,
                        bucket.pictures, bucket.draws, bucket.batches);
  for (const Problem problem : {Problem::unreadable, Problem::tiny, Problem::duplicate, Problem::no_caption,
                                Problem::caption_cut, Problem::wildcards_unused, Problem::transparent}) {
    const auto number = static_cast<std::size_t>(report.count(problem));
    if (number == 0) continue;
    text += fmt::format("{} {}:\n", number, described(problem));
    std::size_t shown = 0;
    for (const Finding& finding : report.findings) {
      if (finding.problem != problem || shown++ >= kShownFindings) continue;
      const bool named = finding.message.find(finding.path) != std::string::npos;
      text += fmt::format("  {}\n", base::printable(named ? finding.message : finding.path + " " + finding.message));
    }
    if (number > kShownFindings) text += fmt::format("  and {} more (--json lists all)\n", number - kShownFindings);
  }
  return text;
}

}  // namespace

void add_data_flag(CLI::App& app, ImageDataOptions& o) {
  app.add_option("--data", o.data,
                 "A folder of pictures with captions of the same names (.txt, .caption); or of folders named like "
                 "\"10_token class\" (repeats, caption); or a kohya dataset file (.toml)")
      ->type_name("PATH")
      ->group("Data");
}

void add_bucket_flags(CLI::App& app, ImageDataOptions& o) {
  in_group("Data",
           {app.add_option("--resolution", o.resolution,
                           "Side of the squares that are trained on, or their size (left out, the model's own); with "
                           "--buckets the area")
                ->type_name("N|WxH"),
            app.add_flag("--buckets", o.buckets,
                         "Keep the pictures' proportions about: sizes of like area, a batch of one size"),
            side(app, "--bucket-step", o.bucket_step, "Sides of a bucket are multiples of it (left out, 64)"),
            side(app, "--min-bucket", o.min_bucket, "Least side of a bucket (left out, half the resolution)"),
            side(app, "--max-bucket", o.max_bucket, "Largest side of a bucket (left out, twice the resolution)"),
            app.add_flag("--bucket-no-upscale", o.no_upscale, "With --buckets: never enlarge a picture")});
}

void add_caption_flags(CLI::App& app, ImageDataOptions& o) {
  in_group(
      "Captions",
      {app.add_option("--caption-extension", o.caption_extension,
                      "Ending of the captions' files (left out, .txt, else .caption)")
           ->type_name("TEXT"),
       app.add_flag("--shuffle-captions", o.shuffle_captions,
                    "Put the tags of a caption, between commas, into a new order each time"),
       app.add_option("--keep-tokens", o.keep_tokens, "First tags that stay in their place")
           ->check(whole_in_range(0, 1000))
           ->type_name("N")
           ->capture_default_str(),
       app.add_option("--keep-tokens-separator", o.keep_separator, "Tags before this mark stay in their place")
           ->type_name("TEXT"),
       share(app, "--caption-dropout", o.caption_dropout,
             "Share of the times that a picture comes without its caption"),
       share(app, "--tag-dropout", o.tag_dropout, "Share of the tags that are left out each time"),
       app.add_flag("--wildcards", o.wildcards,
                    "Draw one of {a|b} in a caption, and one line of several, each time (left out, the first line)")});
}

void add_picture_flags(CLI::App& app, ImageDataOptions& o) {
  in_group("Data",
           {app.add_flag("--flip", o.flip, "Mirror the pictures half of the times"),
            app.add_flag("--random-crop", o.random_crop, "Cut what is too long anywhere, not in the middle"),
            app.add_flag("--masked-loss", o.masked_loss,
                         "Learn only what a mask shows white: NAME.mask.png beside the picture, or its opaque part"),
            app.add_option("--prior-weight", o.prior_weight, "Weight of class pictures in the loss")
                ->check(in_range(0, 1e3))
                ->type_name("X")
                ->capture_default_str(),
            app.add_flag("--cache-latents", o.cache_latents, "Encode each picture once, and keep that on disk"),
            app.add_option("--cache-dir", o.cache_dir, "Where; runs can share it (left out, cache in the run's folder)")
                ->type_name("DIR"),
            app.add_flag("--strict-data", o.strict, "A picture that cannot be used is an error, not left out"),
            app.add_flag(
                "--check", o.check,
                "List what is wrong with the pictures, draw them by buckets, and exit (3 where some cannot be used)"),
            app.add_option("--contact-sheet", o.contact_sheet,
                           "With --check: the picture that is drawn (left out, OUTPUT.buckets.png, or buckets.png)")
                ->type_name("FILE")});
}

BucketOptions bucket_options(const ImageDataOptions& o, std::int64_t native_size) {
  BucketOptions buckets;
  const int native = static_cast<int>(native_size);
  buckets.resolution = o.resolution.empty() ? Size{native, native} : parse_resolution(o.resolution);
  buckets.enabled = o.buckets;
  buckets.no_upscale = o.no_upscale;
  const int shorter = std::min(buckets.resolution.width, buckets.resolution.height);
  const int longer = std::max(buckets.resolution.width, buckets.resolution.height);
  const auto or_else = [](std::int64_t given, int otherwise) {
    return given > 0 ? static_cast<int>(given) : otherwise;
  };
  buckets.step = or_else(o.bucket_step, std::clamp(shorter / 8 / 8 * 8, 8, 64));
  buckets.min_side = or_else(o.min_bucket, std::max(8, shorter / 2 / 8 * 8));
  buckets.max_side = or_else(o.max_bucket, 2 * longer);
  train::image::check_buckets(buckets);
  return buckets;
}

train::image::SourceDefaults source_defaults(const ImageDataOptions& o, std::int64_t native_size,
                                             std::int64_t batch_size) {
  train::image::SourceDefaults defaults;
  defaults.buckets = bucket_options(o, native_size);
  defaults.batch_size = batch_size;
  train::image::Subset& subset = defaults.subset;
  subset.caption_extension = o.caption_extension;
  if (!subset.caption_extension.empty() && !subset.caption_extension.starts_with('.'))
    subset.caption_extension.insert(0, ".");
  subset.flip = o.flip;
  subset.random_crop = o.random_crop;
  subset.captions.shuffle = o.shuffle_captions;
  subset.captions.keep_tokens = o.keep_tokens;
  subset.captions.keep_separator = o.keep_separator;
  subset.captions.dropout = o.caption_dropout;
  subset.captions.tag_dropout = o.tag_dropout;
  subset.captions.wildcards = o.wildcards;
  return defaults;
}

train::image::ImageDatasetOptions dataset_options(const ImageDataOptions& o, std::uint64_t seed,
                                                  std::int64_t accumulation, std::int64_t downscale,
                                                  std::shared_ptr<const text::ClipTokenizer> tokenizer) {
  return {.seed = seed,
          .accumulation = accumulation,
          .prior_weight = o.prior_weight,
          .masked_loss = o.masked_loss,
          .strict = o.strict,
          .downscale = static_cast<int>(downscale),
          .tokenizer = std::move(tokenizer)};
}

void check_data_flags(const ImageDataOptions& o) {
  const auto require = [](bool good, const std::string& message) {
    if (!good) throw Error(ExitCode::usage, message);
  };
  require(o.buckets || !o.no_upscale, "--bucket-no-upscale needs --buckets");
  for (const auto& [flag, value] :
       {std::pair{"--bucket-step", o.bucket_step}, {"--min-bucket", o.min_bucket}, {"--max-bucket", o.max_bucket}})
    require(o.buckets || value == 0, fmt::format("{} needs --buckets", flag));
  require(o.check || o.contact_sheet.empty(), "--contact-sheet needs --check");
  require(o.cache_latents || o.cache_dir.empty(), "--cache-dir needs --cache-latents");
  require(!(o.cache_latents && o.random_crop), "--random-crop does not go with --cache-latents");
  if (!o.contact_sheet.empty()) image::check_output_path(o.contact_sheet);
}

int report_data(const ImageDataset& data, const ImageDataOptions& o, const std::string& sheet, bool json,
                Output& output) {
  const std::string path = o.contact_sheet.empty() ? sheet : o.contact_sheet;
  image::write_image(path, contact_sheet(data));
  const DataReport& report = data.report();
  if (json) {
    Json record = report.json();
    record["contact_sheet"] = path;
    output.record(record);
  } else {
    output.text(report_text(report) + fmt::format("contact sheet: {}\n", base::printable(path)));
    output.end_text();
  }
  return report.count(Problem::unreadable) > 0 ? static_cast<int>(ExitCode::some_failed) : 0;
}

}  // namespace atelier::cli
