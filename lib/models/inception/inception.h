#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "io/weight_source.h"
#include "nn/module.h"

namespace atelier::models::inception {

class BasicConv2d;
class Block;

/// The InceptionV3 (arXiv:1512.00567) that FID is measured with: TensorFlow's network of 2015-12-05 as pytorch-fid has it. It differs from
/// torchvision's in its pooling: averages leave out the padding, and the last block takes maxima. Names are torchvision's
/// (`Mixed_5b.branch1x1.conv.weight`). Only what leads to the pooled features is there.
class InceptionV3 : public nn::Module {
 public:
  static constexpr std::int64_t side = 299, features = 2048;

  InceptionV3();

  /// Folds every batch normalisation into its convolution and lets go of the tensors that were loaded. Called once, before
  /// forward().
  void fold();

  /// (B, 3, 299, 299) f32 in [-1, 1] -> (B, 2048): the averages of the last feature maps.
  at::Tensor forward(const at::Tensor& pictures) const;

  at::Device device() const;

 private:
  std::shared_ptr<BasicConv2d> convolution(const char* name, std::int64_t in, std::int64_t out, std::int64_t kernel,
                                           std::int64_t stride, std::int64_t padding);
  void block(const char* name, std::shared_ptr<Block> block);

  std::shared_ptr<BasicConv2d> conv_1a_, conv_2a_, conv_2b_, conv_3b_, conv_4a_;
  std::vector<std::shared_ptr<BasicConv2d>> convolutions_;
  std::vector<std::shared_ptr<Block>> blocks_;
};

/// The network with a checkpoint's weights, folded; the classifier is marked as used and left alone. Error(data).
std::shared_ptr<const InceptionV3> load(io::WeightSource& weights, at::Device device);

}  // namespace atelier::models::inception
