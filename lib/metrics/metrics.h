#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "metrics/figure.h"
#include "metrics/networks.h"
#include "metrics/pictures.h"
#include "metrics/statistics.h"

namespace atelier::metrics {

/// What the calls on whole folders have in common.
struct FolderOptions {
  std::int64_t batch_size = 0;  ///< 0: what suits the network
  BootstrapOptions bootstrap;
};

/// Inception features of many pictures, with what makes them comparable.
struct InceptionFeatures {
  at::Tensor features;           ///< f32 (N, 2048); undefined where only the statistics are known
  FeatureStatistics statistics;  ///< of them
  InceptionVariant variant = InceptionVariant::pytorch_fid;
  std::string weights_sha256;
  std::vector<Unreadable> unreadable;
};

/// Of a list of files. Error(data) with fewer than 2 that can be read.
InceptionFeatures inception_features(const PictureSet& set, const Inception& network, InceptionVariant variant,
                                     const FolderOptions& options = {});

/// Keeps features for another run: one safetensors file, written whole or not at all; metadata has the hash of the weights, of the pictures'
/// names and bytes, and the variant. Error(cannot_create), Error(io).
void save_features(const std::string& path, const InceptionFeatures& features, const std::string& pictures_sha256);
/// Reads such a file. Error(data) where it is none, or of other weights or another variant than asked for.
InceptionFeatures load_features(const std::string& path, const Inception& network, InceptionVariant variant);
/// Hash over the names and contents of the files of a set, in their order.
std::string pictures_sha256(const PictureSet& set);

/// Features of `source`: a file that save_features wrote, or a folder. With `cache`, a folder's features are kept below that folder under
/// the hash of pictures, weights and variant, and taken from there the next time; a cache that cannot be written is a warning.
InceptionFeatures features_of(const std::string& source, const Inception& network, InceptionVariant variant,
                              const FolderOptions& options = {}, const std::string& cache = {});

/// Fréchet Inception distance of two sets of features. A warning below 2,048 pictures, where the figure depends much on their number.
Figure fid(const InceptionFeatures& real, const InceptionFeatures& fake, const FolderOptions& options = {});

/// Kernel Inception distance. Subsets are made as small as the smaller set, with a warning. Error(data) where features are not known
/// (a file of statistics alone).
Figure kid(const InceptionFeatures& real, const InceptionFeatures& fake, const FolderOptions& options = {},
           const KidOptions& kid_options = {});

/// Distance of a picture, or mean distance of pairs of pictures: two files, or two folders paired by name (endings may differ). n_fake
/// is the number of pairs. Error(data): sizes of a pair differ, or names in only one folder.
Figure lpips(const std::string& a, const std::string& b, const Lpips& network, const FolderOptions& options = {});

/// Mean LPIPS of all pairs of a set's pictures, or of `max_pairs` pairs drawn by the bootstrap's seed where there are more. Error(data) with fewer than
/// 2 pictures, or of more than one size.
Figure diversity(const PictureSet& set, const Lpips& network, std::int64_t max_pairs = 10000,
                 const FolderOptions& options = {});

/// A picture and the text that it is to show.
struct Captioned {
  std::string file, text;
};

/// Mean of max(100 cos, 0). Reference: CLIPScore (arXiv:2104.08718), as torchmetrics computes it.
Figure clip_score(const std::vector<Captioned>& pictures, const ClipScorer& scorer, const FolderOptions& options = {});

/// Predictors of which picture people prefer; all are CLIP models fine-tuned on choices.
enum class PreferenceModel {
  pickscore,  ///< exp(logit_scale) cos (arXiv:2305.01569)
  hpsv2,      ///< 100 cos (arXiv:2306.09341); v2.0 and v2.1 differ by their weights
};
std::optional<PreferenceModel> parse_preference_model(const std::string& name);  ///< "pickscore", "hpsv2"
const char* preference_name(PreferenceModel model);

/// Mean score of the pictures for their texts.
Figure preference(const std::vector<Captioned>& pictures, const ClipScorer& scorer, PreferenceModel model,
                  const FolderOptions& options = {});

/// The cosine of every single picture with its text, in their order; NaN where it could not be read (then it is in `unreadable`).
std::vector<double> caption_cosines(const std::vector<Captioned>& pictures, const ClipScorer& scorer,
                                    std::vector<Unreadable>& unreadable, const FolderOptions& options = {});

/// What a cosine counts by a preference model.
double preference_score(PreferenceModel model, double cosine, const ClipScorer& scorer);

/// A golden value, computed now without any file.
struct SelfTest {
  std::string metric, variant;
  double value = 0, expected = 0, tolerance = 0;  ///< tolerance: the largest difference that counts as equal
  bool passed() const;
};
/// Every metric on networks whose weights follow from a formula, against what the Python packages gave for the same weights.
std::vector<SelfTest> selftest();

}  // namespace atelier::metrics
