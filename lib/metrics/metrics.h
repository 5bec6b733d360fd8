#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "metrics/bootstrap.h"
#include "metrics/figure.h"
#include "metrics/networks.h"
#include "metrics/pictures.h"
#include "metrics/selftest.h"
#include "metrics/statistics.h"

namespace atelier::metrics {

/// What the calls on whole folders have in common.
struct FolderOptions {
  std::int64_t batch_size = 0;  ///< 0: what suits the network
  BootstrapOptions bootstrap = {};
  std::string progress = {};  ///< label of the progress on stderr; "": none
};

/// Inception features of many pictures, with what makes them comparable.
struct InceptionFeatures {
  at::Tensor features;           ///< f32 (N, 2048); undefined where only the statistics are known
  FeatureStatistics statistics;  ///< of them
  InceptionVariant variant = InceptionVariant::pytorch_fid;
  std::string weights_sha256;
  std::vector<Unreadable> unreadable;
};

/// Of a set of pictures, which may be of different sizes. Error(data) with fewer than 2 that can be read.
InceptionFeatures inception_features(const PictureSet& set, const Inception& network, InceptionVariant variant,
                                     const FolderOptions& options = {});

/// Keeps features for another run: one safetensors file, written whole or not at all. Error(cannot_create), Error(io).
void save_features(const std::string& path, const InceptionFeatures& features);
/// Reads such a file; also one that has `mean` and `covariance` alone (scripts/convert-metrics makes those of pytorch-fid's .npz files).
/// Error(no_input); Error(data) where it is no such file, or one of other weights or of another variant.
InceptionFeatures load_features(const std::string& path, const std::string& weights_sha256, InceptionVariant variant);
/// Hash over the names and contents of a set's files, in their order.
std::string pictures_sha256(const PictureSet& set);

/// Features of `source`: a folder, or a file that save_features wrote (*.safetensors). With `cache`, a folder's features are kept in that folder
/// under a hash of pictures, weights and variant, and taken from there the next time; a cache that cannot be written, or that is
/// damaged, costs a warning and time.
InceptionFeatures features_of(const std::string& source, const Inception& network, InceptionVariant variant,
                              const FolderOptions& options = {}, const std::string& cache = {});

/// Fréchet Inception distance. A warning below 2,048 pictures, where the figure depends much on their number. Error(data) where the two were made
/// by different weights or variants.
Figure fid(const InceptionFeatures& real, const InceptionFeatures& fake, const FolderOptions& options = {});

/// Kernel Inception distance. Subsets become as small as the smaller set, with a warning. Error(data) where the two were made by different
/// weights or variants, or where of one only the statistics are known.
Figure kid(const InceptionFeatures& real, const InceptionFeatures& fake, const FolderOptions& options = {},
           const KidOptions& kid_options = {});

/// Distance of two pictures, or mean distance of pairs of pictures: two files, or two folders paired by the names without endings.
/// n_real and n_fake are the number of pairs. Error(no_input); Error(data) where a pair's sizes differ, names are in only one
/// folder, or no pair can be read.
Figure lpips(const std::string& a, const std::string& b, const Lpips& network, const FolderOptions& options = {});

/// Mean LPIPS of all pairs of a set's pictures, or of `max_pairs` of them, drawn by the bootstrap's seed, where there are more;
/// of more than 2,000 pictures as many are taken, evenly spaced, with a warning. Error(data) with fewer than 2 pictures that can be read, or where they are of different sizes.
Figure diversity(const PictureSet& set, const Lpips& network, std::int64_t max_pairs = 10000,
                 const FolderOptions& options = {});

/// A picture and the text that it is to show.
struct Captioned {
  std::string file, text;
};

/// Mean of max(100 cos, 0) (CLIPScore, arXiv:2104.08718, as torchmetrics computes it). Error(data) where no picture can be read.
Figure clip_score(const std::vector<Captioned>& pictures, const ClipScorer& scorer, const FolderOptions& options = {});

/// Mean score of the pictures for their texts. Error(data) where no picture can be read.
Figure preference(const std::vector<Captioned>& pictures, const Preference& model, const FolderOptions& options = {});

/// The cosine of every picture with its text, in their order; NaN where it could not be read (then it is in `unreadable`).
std::vector<double> caption_cosines(const std::vector<Captioned>& pictures, const ClipScorer& scorer,
                                    std::vector<Unreadable>& unreadable, const FolderOptions& options = {});

}  // namespace atelier::metrics
