#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "io/weight_source.h"
#include "nn/conv.h"

namespace atelier::models::lpips {

enum class Trunk { alex, vgg, squeeze };
const char* trunk_name(Trunk trunk);  ///< as the lpips package calls it

class Layer;

/// Learned Perceptual Image Patch Similarity, version 0.1 (arXiv:1801.03924): features of a network trained on ImageNet, each
/// pixel's of length 1, squared differences weighted by a linear layer. Names are torchvision's for the trunk (`features.0.weight`) and those of
/// lpips for the linear layers (`lin0.model.1.weight`).
class Network : public nn::Module {
 public:
  explicit Network(Trunk trunk);

  /// (B, 3, H, W) f32 in [-1, 1] -> one (B, C, H', W') for each linear layer, of length 1 along C. Both sides at least
  /// smallest_side().
  std::vector<at::Tensor> features(const at::Tensor& pictures) const;

  /// Distances of pictures whose features these are, (B); a batch of 1 is compared with each of the other side.
  at::Tensor distance(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) const;

  Trunk trunk() const { return trunk_; }
  std::int64_t smallest_side() const;
  at::Device device() const { return linear_.front()->weight.device(); }

 private:
  Trunk trunk_;
  std::vector<std::shared_ptr<Layer>> layers_;
  std::vector<std::shared_ptr<nn::Conv2d>> linear_;
};

/// Which trunk a checkpoint holds; Error(data) where it is none of them, or lacks the linear layers.
Trunk recognise(const io::WeightSource& weights);

/// The network with a checkpoint's weights; a classifier on top of the trunk is marked as used and left alone. Error(data).
std::shared_ptr<const Network> load(io::WeightSource& weights, at::Device device);

}  // namespace atelier::models::lpips
