#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "image/image.h"
#include "train/image/batch.h"
#include "train/image/pictures.h"
#include "train/image/tensor_cache.h"

namespace atelier::train::image {

struct ImageDatasetOptions {
  std::uint64_t seed = 0;
  std::int64_t accumulation =
      1;  ///< micro-batches of a step. A step never reaches into the next epoch, whose last one is filled
          ///< up with empty batches (weight 0, no tensors)
  double prior_weight = 1;                                    ///< loss weight of class pictures
  bool masked_loss = false;                                   ///< batches have masks
  bool strict = false;                                        ///< a picture that cannot be used is an error
  int downscale = 8;                                          ///< pixels per latent
  std::shared_ptr<const text::ClipTokenizer> tokenizer = {};  ///< to find captions that are cut; null: not looked for
};

/// Pictures with captions in random order, in batches of one size. What comes up when is decided by seed and epoch alone.
///
/// Class pictures (Subset::is_class): as many come up in an epoch as others, all in turn from epoch to epoch. They are put
/// into the batches of their bucket beside the others, batch_size of each at most (diffusers' DreamBooth); what is left of
/// them makes batches of its own.
///
/// Masks, with masked_loss: of Subset::mask_folder, else NAME.mask.png beside the picture, else the alpha channel (where
/// alpha_mask says so, or some pixel is not opaque); 1 throughout where there is none. White (opaque) is learnt. A latent's
/// mask is the mean of its pixels'.
class ImageDataset {
 public:
  /// Reads and decodes every file once. A picture that is damaged, or whose caption or mask is, is left out with a warning
  /// (one line for all), or Error(data) with `strict`. Error(data): nothing is left. Looks at the stop flag, shows progress.
  ImageDataset(std::vector<SubsetGroup> groups, ImageDatasetOptions options);

  const DataReport& report() const { return report_; }
  const std::vector<PictureEntry>& entries() const { return entries_; }
  const std::vector<SubsetGroup>& groups() const { return groups_; }
  /// Of all pictures, captions, masks and of what is done to them: another one is another dataset.
  const std::string& sha256() const { return sha256_; }

  std::int64_t batches() const {
    return static_cast<std::int64_t>(shapes_.size());
  }  ///< of an epoch, without empty ones
  std::int64_t steps_per_epoch() const;

  /// A batch of an epoch. Error(data) where a file has changed since it was read.
  std::unique_ptr<ImageBatch> batch(std::int64_t epoch, std::int64_t index);
  /// The next one, for Task::next.
  std::unique_ptr<ImageBatch> next();
  /// For Task::position and Task::seek.
  base::Json position() const;
  void seek(const base::Json& position);

  /// Distinct captions that can come up, the empty one of a dropout among them. Precondition: !captions_vary().
  std::vector<std::string> captions() const;
  bool captions_vary() const;
  /// How often each tag stands in the captions of a folder: {folder: {tag: count}}, kohya's ss_tag_frequency.
  base::Json tag_frequency() const;

  /// From now on batches have `moments` in place of `pixels`. What the cache lacks is computed first: `encode` takes pixels
  /// (1, 3, H, W) f32 in [-1, 1] and gives (1, 8, H/8, W/8), mean and log-variance. Each flip is an entry of its own.
  /// Error(usage) with random_crop, whose pixels differ from epoch to epoch. Looks at the stop flag, shows progress.
  void cache_latents(std::shared_ptr<const TensorCache> cache,
                     const std::function<at::Tensor(const at::Tensor& pixels)>& encode);

 private:
  struct Draw {
    std::uint32_t entry = 0;
    bool is_class = false;
  };
  /// What the batches of every epoch have in common: which bucket, how many pictures.
  struct Shape {
    std::size_t bucket = 0, instances = 0, classes = 0;
  };
  struct Bucket {
    std::size_t group = 0;
    Size size;
    std::vector<std::uint32_t> instances, classes;  ///< entries, repeated
    std::size_t class_draws = 0;                    ///< of an epoch
  };
  void make_buckets();
  void share_class_draws();
  void make_shapes();
  void finish_report();
  std::string fingerprint() const;
  void arrange(std::int64_t epoch);
  std::vector<std::uint32_t> class_draws(std::size_t bucket, std::int64_t epoch) const;
  void add_picture(ImageBatch& batch, const Draw& draw, std::int64_t epoch, base::Generator& generator,
                   std::vector<TensorMap>& tensors) const;
  TensorMap cached(const PictureEntry& entry, bool mirrored) const;
  std::string cache_key(const PictureEntry& entry, bool mirrored) const;
  CutPicture cut(const PictureEntry& entry, bool mirrored, base::Generator* crop) const;
  TensorMap describe(const CutPicture& cut, const PictureEntry& entry) const;
  const Subset& subset_of(const PictureEntry& entry) const { return groups_[entry.group].subsets[entry.subset]; }

  std::vector<SubsetGroup> groups_;
  ImageDatasetOptions options_;
  std::vector<PictureEntry> entries_;
  std::vector<Bucket> buckets_;
  std::vector<Shape> shapes_;
  DataReport report_;
  std::string sha256_;
  std::shared_ptr<const TensorCache> latents_;
  std::function<at::Tensor(const at::Tensor&)> encode_;

  std::int64_t arranged_ = -1;            ///< the epoch that these are of
  std::vector<std::vector<Draw>> order_;  ///< of each batch
  std::int64_t epoch_ = 0, micro_ = 0;    ///< of next()
};

/// Pictures of the dataset as they are trained on, a grid for each bucket one above the other with a stripe between them; at
/// most `most` of a bucket.
atelier::image::Image contact_sheet(const ImageDataset& data, std::size_t most = 32);

}  // namespace atelier::train::image
