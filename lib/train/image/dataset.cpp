#include "train/image/dataset.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "train/draws.h"

namespace atelier::train::image {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

/// What a sequence of random numbers is for; a bucket's or batch's number is added.
enum Purpose : std::uint64_t {
  batch_order = 0,
  instance_order = 1u << 20,
  class_order = 2u << 20,
  augmentation = 4u << 20
};

}  // namespace

ImageDataset::ImageDataset(std::vector<SubsetGroup> groups, ImageDatasetOptions options)
    : groups_(std::move(groups)), options_(std::move(options)) {
  entries_ = scan_pictures(
      groups_, {.masks = options_.masked_loss, .strict = options_.strict, .tokenizer = options_.tokenizer}, report_);
  make_buckets();
  share_class_draws();
  make_shapes();
  finish_report();
  sha256_ = fingerprint();
}

// --- Order ------------------------------------------------------------------------------------------------------------

void ImageDataset::make_buckets() {
  std::map<std::pair<std::size_t, Size>, Bucket> found;
  std::size_t instances = 0;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const PictureEntry& entry = entries_[i];
    const Subset& subset = subset_of(entry);
    Bucket& bucket = found[{entry.group, entry.fit.bucket}];
    bucket.group = entry.group;
    bucket.size = entry.fit.bucket;
    auto& list = subset.is_class ? bucket.classes : bucket.instances;
    list.insert(list.end(), static_cast<std::size_t>(subset.repeats), static_cast<std::uint32_t>(i));
    instances += subset.is_class ? 0 : 1;
  }
  if (instances == 0 && !entries_.empty()) throw Error(ExitCode::data, "there are class pictures only, and none of a subject");
  if (instances == 0) {
    const std::string reason = report_.findings.empty() ? "" : ": " + report_.findings.front().message;
    throw Error(ExitCode::data, "no picture can be used" + reason);
  }
  for (auto& [key, bucket] : found) buckets_.push_back(std::move(bucket));
}

/// As many class pictures an epoch as others, shared out by how many a bucket has.
void ImageDataset::share_class_draws() {
  std::size_t instances = 0, classes = 0;
  for (const Bucket& bucket : buckets_) {
    instances += bucket.instances.size();
    classes += bucket.classes.size();
  }
  std::size_t seen = 0, given = 0;
  for (Bucket& bucket : buckets_) {
    seen += bucket.classes.size();
    const std::size_t until = classes == 0 ? 0 : instances * seen / classes;
    bucket.class_draws = until - given;
    given = until;
  }
}

void ImageDataset::make_shapes() {
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    const auto most = static_cast<std::size_t>(groups_[buckets_[b].group].batch_size);
    std::size_t instances = buckets_[b].instances.size(), classes = buckets_[b].class_draws;
    while (instances > 0 || classes > 0) {
      const std::size_t own = std::min(instances, most);
      const std::size_t beside = std::min(classes, own > 0 ? own : most);
      shapes_.push_back({b, own, beside});
      instances -= own;
      classes -= beside;
    }
  }
}

std::int64_t ImageDataset::steps_per_epoch() const {
  return (batches() + options_.accumulation - 1) / options_.accumulation;
}

/// Class pictures in turn: a new order each time that all have been through, wherever an epoch ends.
std::vector<std::uint32_t> ImageDataset::class_draws(std::size_t b, std::int64_t epoch) const {
  const Bucket& bucket = buckets_[b];
  const std::size_t size = bucket.classes.size();
  std::vector<std::uint32_t> draws, order;
  std::int64_t arranged = -1;
  for (std::size_t i = 0; i < bucket.class_draws; ++i) {
    const auto place = static_cast<std::uint64_t>(epoch) * bucket.class_draws + i;
    const auto round = static_cast<std::int64_t>(place / size);
    if (round != arranged) {
      order = bucket.classes;
      shuffle(order, generator_of(options_.seed, round, class_order + b));
      arranged = round;
    }
    draws.push_back(order[place % size]);
  }
  return draws;
}

void ImageDataset::arrange(std::int64_t epoch) {
  if (arranged_ == epoch) return;
  std::vector<std::vector<std::uint32_t>> instances, classes;
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    instances.push_back(buckets_[b].instances);
    shuffle(instances.back(), generator_of(options_.seed, epoch, instance_order + b));
    classes.push_back(class_draws(b, epoch));
  }
  order_.clear();
  std::vector<std::size_t> next_instance(buckets_.size()), next_class(buckets_.size());
  for (const Shape& shape : shapes_) {
    auto& draws = order_.emplace_back();
    const std::size_t b = shape.bucket;
    for (std::size_t i = 0; i < shape.instances; ++i) draws.push_back({instances[b][next_instance[b]++], false});
    for (std::size_t i = 0; i < shape.classes; ++i) draws.push_back({classes[b][next_class[b]++], true});
  }
  shuffle(order_, generator_of(options_.seed, epoch, batch_order));
  arranged_ = epoch;
}

std::unique_ptr<ImageBatch> ImageDataset::next() {
  auto batch = micro_ < batches() ? this->batch(epoch_, micro_) : std::make_unique<ImageBatch>();
  if (++micro_ == steps_per_epoch() * options_.accumulation) {
    micro_ = 0;
    ++epoch_;
  }
  return batch;
}

Json ImageDataset::position() const { return {{"epoch", epoch_}, {"micro_batch", micro_}}; }

void ImageDataset::seek(const Json& position) {
  const std::string what = "state.json: position";
  if (!position.is_object()) throw Error(ExitCode::data, what + " is not an object");
  const base::JsonFields fields(position, what);
  epoch_ = fields.integer("epoch", 0, INT64_MAX / 2);
  micro_ = fields.integer("micro_batch", 0, steps_per_epoch() * options_.accumulation - 1);
}

// --- Batches ----------------------------------------------------------------------------------------------------------

std::unique_ptr<ImageBatch> ImageDataset::batch(std::int64_t epoch, std::int64_t index) {
  arrange(epoch);
  auto batch = std::make_unique<ImageBatch>();
  base::Generator generator = generator_of(options_.seed, epoch, augmentation + static_cast<std::uint64_t>(index));
  std::vector<TensorMap> tensors;
  std::ptrdiff_t instances = 0;
  for (const Draw& draw : order_.at(static_cast<std::size_t>(index))) {
    add_picture(*batch, draw, epoch, generator, tensors);
    instances += draw.is_class ? 0 : 1;
  }
  const auto stacked = [&](const char* name) {
    std::vector<at::Tensor> parts;
    for (const TensorMap& one : tensors)
      if (const auto found = one.find(name); found != one.end()) parts.push_back(found->second);
    return parts.empty() ? at::Tensor() : at::stack(parts);
  };
  batch->pixels = stacked("pixels");
  batch->moments = stacked("moments");
  batch->mask = stacked("mask");
  batch->sizes = stacked("sizes");
  batch->weight = static_cast<double>(instances > 0 ? instances : std::ssize(batch->loss_weights));
  batch->tokens = batch->captions.size();
  return batch;
}

void ImageDataset::add_picture(ImageBatch& batch, const Draw& draw, std::int64_t epoch, base::Generator& generator,
                               std::vector<TensorMap>& tensors) const {
  const PictureEntry& entry = entries_[draw.entry];
  const Subset& subset = subset_of(entry);
  const bool mirrored = subset.flip && base::uniform(generator) < 0.5;
  TensorMap own;
  if (latents_) {
    own = cached(entry, mirrored);
  } else {
    const CutPicture picture = cut(entry, mirrored, subset.random_crop ? &generator : nullptr);
    own = describe(picture, entry);
    own["pixels"] = to_pixels(picture.picture);
  }
  tensors.push_back(std::move(own));
  batch.captions.push_back(vary_caption(entry.caption, subset.captions, epoch, generator));
  batch.keys.push_back(caption_key(batch.captions.back()));
  batch.loss_weights.push_back(draw.is_class ? options_.prior_weight : 1);
}

CutPicture ImageDataset::cut(const PictureEntry& entry, bool mirrored, base::Generator* crop) const {
  return cut_picture(entry, mirrored, crop, options_.masked_loss, subset_of(entry).alpha_mask);
}

TensorMap ImageDataset::describe(const CutPicture& cut, const PictureEntry& entry) const {
  const Size bucket = entry.fit.bucket;
  TensorMap tensors;
  tensors["sizes"] =
      at::tensor({entry.size.height, entry.size.width, cut.top, cut.left, bucket.height, bucket.width}, at::kLong);
  if (options_.masked_loss) tensors["mask"] = to_latent_mask(cut.mask, bucket, options_.downscale);
  return tensors;
}

// --- Caches -----------------------------------------------------------------------------------------------------------

std::string ImageDataset::cache_key(const PictureEntry& entry, bool mirrored) const {
  const auto& [bucket, resized] = entry.fit;
  return base::sha256_hex(fmt::format("{} {} {}x{} {}x{} {} {}", entry.sha256,
                                      options_.masked_loss ? "masked " + entry.mask_sha256 : "", bucket.width,
                                      bucket.height, resized.width, resized.height, mirrored ? "mirrored" : "",
                                      options_.masked_loss && subset_of(entry).alpha_mask ? "alpha" : ""));
}

TensorMap ImageDataset::cached(const PictureEntry& entry, bool mirrored) const {
  return latents_->get(cache_key(entry, mirrored), [&] {
    const CutPicture picture = cut(entry, mirrored, nullptr);
    TensorMap tensors = describe(picture, entry);
    const at::NoGradGuard no_grad;
    const at::Tensor moments = encode_(to_pixels(picture.picture).unsqueeze(0));  // (1, 8, h, w)
    tensors["moments"] = moments.squeeze(0).to(at::kCPU, at::kFloat).contiguous();
    if (!tensors["moments"].isfinite().all().item<bool>())
      throw Error(ExitCode::condition, fmt::format("{}: the autoencoder makes NaN of it", entry.path),
                  "SDXL's own autoencoder overflows in fp16: --precision bf16 or fp32, or another --vae");
    return tensors;
  });
}

void ImageDataset::cache_latents(std::shared_ptr<const TensorCache> cache,
                                 const std::function<at::Tensor(const at::Tensor& pixels)>& encode) {
  std::uint64_t wanted = 0, done = 0;
  for (const PictureEntry& entry : entries_) {
    if (subset_of(entry).random_crop)
      throw Error(ExitCode::usage, "random crops differ each time: their latents cannot be cached",
                  "leave out --cache-latents or --random-crop");
    wanted += subset_of(entry).flip ? 2 : 1;
  }
  latents_ = std::move(cache);
  encode_ = encode;
  base::Progress progress("caching latents", wanted, "pictures");
  for (const PictureEntry& entry : entries_)
    for (const bool mirrored : {false, true}) {
      if (mirrored && !subset_of(entry).flip) continue;
      base::throw_if_stopped();
      if (!latents_->has(cache_key(entry, mirrored))) cached(entry, mirrored);
      progress.update(++done);
    }
}

// --- What is said of it -----------------------------------------------------------------------------------------------

std::vector<std::string> ImageDataset::captions() const {
  std::set<std::string> all;
  for (const PictureEntry& entry : entries_) {
    CaptionOptions options = subset_of(entry).captions;
    if (options.dropout > 0 || options.dropout_every_epochs > 0) all.insert("");
    options.dropout = 0;
    options.dropout_every_epochs = 0;
    base::Generator unused;
    all.insert(vary_caption(entry.caption, options, 0, unused));
  }
  return {all.begin(), all.end()};
}

bool ImageDataset::captions_vary() const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [this](const PictureEntry& entry) { return subset_of(entry).captions.varies(); });
}

Json ImageDataset::tag_frequency() const {
  std::map<std::string, std::map<std::string, std::int64_t>> all;
  for (const PictureEntry& entry : entries_) {
    auto& of_folder = all[std::filesystem::path(subset_of(entry).folder).filename().string()];
    for (const std::string& tag : caption_tags(entry.caption)) ++of_folder[tag];
  }
  return all;
}

void ImageDataset::finish_report() {
  report_.kept = std::ssize(entries_);
  for (const PictureEntry& entry : entries_) report_.class_pictures += subset_of(entry).is_class ? 1 : 0;
  std::map<Size, DataReport::Bucket> of_size;
  for (const PictureEntry& entry : entries_) ++of_size[entry.fit.bucket].pictures;
  for (const Shape& shape : shapes_) {
    DataReport::Bucket& bucket = of_size[buckets_[shape.bucket].size];
    bucket.draws += static_cast<std::int64_t>(shape.instances + shape.classes);
    ++bucket.batches;
  }
  for (auto& [size, bucket] : of_size) {
    bucket.size = size;
    report_.draws += bucket.draws;
    report_.buckets.push_back(bucket);
  }
  report_.batches = batches();
  std::stable_sort(report_.findings.begin(), report_.findings.end(),
                   [](const Finding& a, const Finding& b) { return a.path < b.path; });
}

std::string ImageDataset::fingerprint() const {
  Json all = {{"masked_loss", options_.masked_loss}, {"accumulation", options_.accumulation}};
  for (const SubsetGroup& group : groups_) {
    all["batch_sizes"].push_back(group.batch_size);
    for (const Subset& s : group.subsets) {
      const CaptionOptions& c = s.captions;
      all["subsets"].push_back({s.repeats, s.is_class, s.flip, s.random_crop, s.alpha_mask, c.prefix, c.suffix,
                                c.dropout, c.dropout_every_epochs, c.wildcards, c.shuffle, c.tag_dropout, c.keep_tokens,
                                c.separator, c.keep_separator, c.secondary_separator});
    }
  }
  for (const PictureEntry& e : entries_)
    all["pictures"].push_back({e.sha256, e.mask_sha256, e.caption, e.group, e.subset, e.fit.bucket.width,
                               e.fit.bucket.height, e.fit.resized.width, e.fit.resized.height});
  return base::sha256_hex(base::dump_json(all));
}

}  // namespace atelier::train::image
