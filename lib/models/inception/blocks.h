#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "nn/module.h"

namespace atelier::models::inception {

/// Within the model: convolution without bias, batch normalisation, ReLU.
class BasicConv2d : public nn::Module {
 public:
  struct Options {
    std::array<std::int64_t, 2> kernel{1, 1};  ///< height, width
    std::int64_t stride = 1;
    std::array<std::int64_t, 2> padding{0, 0};
  };

  BasicConv2d(std::int64_t in, std::int64_t out, const Options& options);

  /// W' = W g / sqrt(v + eps), b' = b - m g / sqrt(v + eps), rounded once from f64; W' in channels-last order.
  void fold();
  at::Tensor forward(const at::Tensor& x) const;      // (B, in, H, W) -> (B, out, H', W')
  at::Tensor before_relu(const at::Tensor& x) const;  // the same, still without the ReLU
  const at::Tensor& weight() const { return weight_; }

 private:
  class Convolution;
  class BatchNorm;

  Options options_;
  std::shared_ptr<Convolution> conv_;
  std::shared_ptr<BatchNorm> bn_;
  at::Tensor weight_, bias_;  // folded
};

/// One of the mixed blocks: branches side by side, joined along the channels.
class Block : public nn::Module {
 public:
  virtual at::Tensor forward(const at::Tensor& x) const = 0;
  void fold();

 protected:
  std::shared_ptr<BasicConv2d> branch(const char* name, std::int64_t in, std::int64_t out, std::int64_t kernel = 1,
                                      std::int64_t stride = 1);
  /// kernel 1 x n or n x 1, padded so that the size stays.
  std::shared_ptr<BasicConv2d> strip(const char* name, std::int64_t in, std::int64_t out, std::int64_t height,
                                     std::int64_t width);

 private:
  std::vector<std::shared_ptr<BasicConv2d>> convolutions_;
};

std::shared_ptr<Block> block_a(std::int64_t in,
                               std::int64_t pool_features);              // (B, in, 35, 35) -> (B, 224 + pool, 35, 35)
std::shared_ptr<Block> block_b(std::int64_t in);                         // (B, 288, 35, 35) -> (B, 768, 17, 17)
std::shared_ptr<Block> block_c(std::int64_t in, std::int64_t channels);  // (B, 768, 17, 17), same shape
std::shared_ptr<Block> block_d(std::int64_t in);                         // (B, 768, 17, 17) -> (B, 1280, 8, 8)
std::shared_ptr<Block> block_e(std::int64_t in, bool max_pool);          // (B, in, 8, 8) -> (B, 2048, 8, 8)

}  // namespace atelier::models::inception
