#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "image/image.h"
#include "metrics/preparation.h"

namespace atelier::models::blip {
class ImageRewardNetwork;
}
namespace atelier::models::clip {
class TextEncoder;
class VisionEncoder;
}  // namespace atelier::models::clip
namespace atelier::models::inception {
class InceptionV3;
}
namespace atelier::models::lpips {
class Network;
}
namespace atelier::text {
class BertTokenizer;
class ClipTokenizer;
}  // namespace atelier::text

namespace atelier::metrics {

/// Hash of a checkpoint: of its file, or of the names and hashes of its shards. Error(no_input).
std::string weights_hash(const std::vector<std::string>& paths);

/// How pictures are brought to Inception's 299 x 299.
enum class InceptionVariant {
  pytorch_fid,  ///< bilinear without anti-aliasing on floats, then 2 x - 1
  clean_fid,    ///< Pillow's bicubic on floats, clamped, then (x - 128) / 128 (arXiv:2104.11222)
};
const char* variant_name(InceptionVariant variant);                                ///< "pytorch-fid", "clean-fid"
std::optional<InceptionVariant> parse_inception_variant(const std::string& name);  ///< by these names

/// The InceptionV3 of pytorch-fid with its weights.
class Inception {
 public:
  /// `file` has the tensors of pt_inception-2015-12-05 under pytorch-fid's names (scripts/convert-metrics makes it).
  /// Error(no_input), Error(data).
  static Inception open(const std::string& file, at::Device device = at::kCPU);
  Inception(std::shared_ptr<const models::inception::InceptionV3> network, std::string weights_sha256)
      : network_(std::move(network)), sha256_(std::move(weights_sha256)) {}

  static constexpr std::int64_t dimension = 2048;

  /// A picture as features() wants it: bytes (H, W, 3), for clean-fid floats (299, 299, 3).
  static at::Tensor prepare(const image::Image& rgb, InceptionVariant variant);
  /// B prepared pictures, of any sizes -> (B, 2048) f32 on the CPU.
  at::Tensor features(const std::vector<at::Tensor>& prepared, InceptionVariant variant) const;
  const std::string& weights_sha256() const { return sha256_; }

 private:
  std::shared_ptr<const models::inception::InceptionV3> network_;
  std::string sha256_;
};

/// Learned Perceptual Image Patch Similarity, version 0.1 (arXiv:1801.03924).
class Lpips {
 public:
  /// `file` has torchvision's trunk (`features.0.weight`, ...) and the linear layers of lpips (`lin0.model.1.weight`, ...). Which
  /// trunk it is, AlexNet, VGG16 or SqueezeNet 1.1, the file tells. Error(no_input), Error(data).
  static Lpips open(const std::string& file, at::Device device = at::kCPU);
  Lpips(std::shared_ptr<const models::lpips::Network> network, std::string weights_sha256);

  /// Features of pictures of bytes (H, W, 3), all of one size: one tensor for each linear layer. Error(data) where a side is too
  /// small for the trunk.
  std::vector<at::Tensor> features(const std::vector<at::Tensor>& pictures) const;
  /// Distances of pictures with these features, (B) f32 on the CPU; a batch of 1 is compared with each of the other side.
  at::Tensor distances(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) const;
  const std::string& variant() const { return variant_; }  ///< "alex", "vgg", "squeeze"
  const std::string& weights_sha256() const { return sha256_; }

 private:
  std::shared_ptr<const models::lpips::Network> network_;
  std::string variant_, sha256_;
};

/// A CLIPModel: both towers, tokenizer, and how it wants its pictures.
class ClipScorer {
 public:
  struct Parts {
    std::shared_ptr<const models::clip::TextEncoder> text;
    std::shared_ptr<const models::clip::VisionEncoder> vision;
    std::shared_ptr<const text::ClipTokenizer> tokenizer;
    ClipPreparation preparation;
    double logit_scale = 1;  ///< exp of the checkpoint's
    std::string weights_sha256;
  };

  /// A folder as transformers saves it: config.json, model.safetensors, tokenizer (without one: CLIP's own vocabulary),
  /// preprocessor_config.json (without one: CLIP's numbers). Error(no_input), Error(data).
  static ClipScorer open(const std::string& folder, at::Device device = at::kCPU, at::ScalarType dtype = at::kFloat,
                         ClipPreparation::Fit fit = ClipPreparation::Fit::as_configured);
  explicit ClipScorer(Parts parts) : parts_(std::move(parts)) {}

  /// A picture as picture_embeddings() wants it: bytes (S, S, 3).
  at::Tensor prepare(const image::Image& rgb) const;
  /// B prepared pictures -> (B, D) f32 of length 1, on the CPU.
  at::Tensor picture_embeddings(const std::vector<at::Tensor>& prepared) const;
  /// B texts -> (B, D) f32 of length 1, on the CPU; what is longer than the tower's positions is cut as transformers cuts it.
  at::Tensor text_embeddings(const std::vector<std::string>& texts) const;
  double logit_scale() const { return parts_.logit_scale; }
  const std::string& weights_sha256() const { return parts_.weights_sha256; }

 private:
  std::vector<std::int64_t> token_ids(const std::string& text) const;

  Parts parts_;
};

/// BLIP with a head that says how good a picture for a text people find: of mean 0 and deviation 1 on the authors' pictures
/// (arXiv:2304.05977).
class ImageReward {
 public:
  struct Parts {
    std::shared_ptr<const models::blip::ImageRewardNetwork> network;
    std::shared_ptr<const text::BertTokenizer> tokenizer;
    ClipPreparation preparation;
    std::string weights_sha256;
  };

  /// A folder with config.json, model.safetensors and vocab.txt (scripts/convert-metrics makes it). Error(no_input), Error(data).
  static ImageReward open(const std::string& folder, at::Device device = at::kCPU, at::ScalarType dtype = at::kFloat);
  explicit ImageReward(Parts parts) : parts_(std::move(parts)) {}

  /// A picture as rewards() wants it: bytes (S, S, 3).
  at::Tensor prepare(const image::Image& rgb) const;
  /// Of B prepared pictures, each for its own text; a text is cut to 35 tokens, as by the authors' package.
  std::vector<double> rewards(const std::vector<at::Tensor>& prepared, const std::vector<std::string>& texts) const;
  const std::string& weights_sha256() const { return parts_.weights_sha256; }

 private:
  std::vector<std::int64_t> token_ids(const std::string& text) const;

  Parts parts_;
};

/// Predictors of which picture people prefer.
enum class PreferenceModel {
  pickscore,    ///< a CLIP model trained further on choices: exp(logit_scale) cos (arXiv:2305.01569)
  hpsv2,        ///< another: 100 cos (arXiv:2306.09341); v2.0 and v2.1 differ by their weights
  imagereward,  ///< ImageReward
};
const char* preference_name(PreferenceModel model);
std::optional<PreferenceModel> parse_preference_model(
    const std::string& name);  ///< "pickscore", "hpsv2", "imagereward"

class Preference {
 public:
  /// The folder of a CLIPModel, as ClipScorer::open, or of an ImageReward. Error(no_input), Error(data).
  static Preference open(const std::string& folder, PreferenceModel model, at::Device device = at::kCPU,
                         at::ScalarType dtype = at::kFloat);

  /// PickScore or HPSv2.
  Preference(ClipScorer clip, PreferenceModel model) : network_(std::move(clip)), model_(model) {}
  explicit Preference(ImageReward reward) : network_(std::move(reward)), model_(PreferenceModel::imagereward) {}

  /// A picture as scores() wants it: bytes (S, S, 3).
  at::Tensor prepare(const image::Image& rgb) const;
  /// Of B prepared pictures, each for its own text.
  std::vector<double> scores(const std::vector<at::Tensor>& prepared, const std::vector<std::string>& texts) const;
  double score(double cosine) const;  ///< of PickScore and HPSv2

  const ClipScorer* clip() const { return std::get_if<ClipScorer>(&network_); }      ///< null for ImageReward
  const ImageReward* reward() const { return std::get_if<ImageReward>(&network_); }  ///< null for the others
  const std::string& weights_sha256() const;
  PreferenceModel model() const { return model_; }

 private:
  std::variant<ClipScorer, ImageReward> network_;
  PreferenceModel model_;
};

}  // namespace atelier::metrics
