#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "image/image.h"

namespace atelier::models::inception {
class InceptionV3;
}
namespace atelier::models::lpips {
class Network;
}

namespace atelier::metrics {

/// How pictures are brought to Inception's 299 x 299.
enum class InceptionVariant {
  pytorch_fid,  ///< bilinear without anti-aliasing on floats, then 2 x - 1
  clean_fid,    ///< Pillow's bicubic on floats, clamped, then (x - 128) / 128 (arXiv:2104.11222)
};
const char* variant_name(InceptionVariant variant);  ///< "pytorch-fid", "clean-fid"

/// The InceptionV3 of pytorch-fid with its weights.
class Inception {
 public:
  static constexpr std::int64_t side = 299, dimension = 2048;

  /// `file` has the tensors of pt_inception-2015-12-05 under pytorch-fid's names (scripts/convert-metrics makes it). Error(no_input),
  /// Error(data).
  static Inception open(const std::string& file, at::Device device = at::kCPU);
  Inception(std::shared_ptr<const models::inception::InceptionV3> network, std::string weights_sha256);

  /// A picture of three channels as the network takes it: (3, 299, 299) f32.
  static at::Tensor prepare(const image::Image& rgb, InceptionVariant variant);
  /// Prepared pictures (B, 3, 299, 299) -> (B, 2048) f32 on the CPU.
  at::Tensor features(const at::Tensor& prepared) const;
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

  /// A picture of three channels as the network takes it: (3, H, W) f32 in [-1, 1].
  static at::Tensor prepare(const image::Image& rgb);
  /// Distances of pairs, (B, 3, H, W) each -> (B) f32 on the CPU. Error(data) where the shapes differ or a side is too small for the
  /// trunk.
  at::Tensor distances(const at::Tensor& a, const at::Tensor& b) const;
  const models::lpips::Network& network() const { return *network_; }
  const std::string& variant() const { return variant_; }  ///< "alex", "vgg", "squeeze"
  const std::string& weights_sha256() const { return sha256_; }

 private:
  std::shared_ptr<const models::lpips::Network> network_;
  std::string variant_, sha256_;
};

/// A CLIPModel: both towers, tokenizer, and how it wants its pictures.
class ClipScorer {
 public:
  /// A folder as transformers saves it: config.json, model.safetensors, tokenizer, preprocessor_config.json (without one: CLIP's).
  /// Error(no_input), Error(data).
  static ClipScorer open(const std::string& folder, at::Device device = at::kCPU, at::ScalarType dtype = at::kFloat);

  /// A picture of three channels as the vision tower takes it: (3, S, S) f32 (CLIPImageProcessor).
  at::Tensor prepare(const image::Image& rgb) const;
  /// Prepared pictures (B, 3, S, S) -> (B, D) f32 of length 1, on the CPU.
  at::Tensor picture_embeddings(const at::Tensor& prepared) const;
  /// Texts -> (B, D) f32 of length 1, on the CPU; what is longer than the tower's positions is cut as transformers cuts it.
  at::Tensor text_embeddings(const std::vector<std::string>& texts) const;
  double logit_scale() const;  ///< exp of the checkpoint's
  const std::string& weights_sha256() const;

 private:
  struct Model;
  explicit ClipScorer(std::shared_ptr<const Model> model) : model_(std::move(model)) {}
  std::shared_ptr<const Model> model_;
};

}  // namespace atelier::metrics
