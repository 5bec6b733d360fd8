#include "models/inception/blocks.h"

#include <utility>

#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/rsqrt.h>

namespace atelier::models::inception {
namespace {

constexpr double kEps = 1e-3;  // of the batch normalisations

/// Averages of 3 x 3 that leave out the padding, as TensorFlow's do.
at::Tensor average(const at::Tensor& x) {
  return at::avg_pool2d(x, {3, 3}, {1, 1}, {1, 1}, /*ceil_mode=*/false, /*count_include_pad=*/false);
}

at::Tensor maximum(const at::Tensor& x, std::int64_t stride, std::int64_t padding) {
  return at::max_pool2d(x, {3, 3}, {stride, stride}, {padding, padding});
}

/// The branch of the average: its 1 x 1 convolution is taken first, on whole pixels, for an average of affine maps is the affine
/// map of the average, and there are fewer channels to average afterwards.
at::Tensor pooled(const BasicConv2d& branch, const at::Tensor& x) { return average(branch.before_relu(x)).relu_(); }

}  // namespace

class BasicConv2d::Convolution : public nn::Module {
 public:
  Convolution(std::int64_t in, std::int64_t out, std::int64_t height, std::int64_t width) {
    weight = register_parameter("weight", nn::placeholder({out, in, height, width}), /*requires_grad=*/false);
  }
  at::Tensor weight;
};

class BasicConv2d::BatchNorm : public nn::Module {
 public:
  explicit BatchNorm(std::int64_t channels) {
    const auto parameter = [&](const char* name) {
      return register_parameter(name, nn::placeholder({channels}), /*requires_grad=*/false);
    };
    weight = parameter("weight");
    bias = parameter("bias");
    running_mean = parameter("running_mean");
    running_var = parameter("running_var");
  }
  at::Tensor weight, bias, running_mean, running_var;
};

BasicConv2d::BasicConv2d(std::int64_t in, std::int64_t out, const Options& options) : options_(options) {
  conv_ = register_module("conv", std::make_shared<Convolution>(in, out, options.kernel[0], options.kernel[1]));
  bn_ = register_module("bn", std::make_shared<BatchNorm>(out));
}

void BasicConv2d::fold() {
  const auto gain = bn_->weight.to(at::kDouble) * at::rsqrt(bn_->running_var.to(at::kDouble) + kEps);  // (out)
  weight_ = (conv_->weight.to(at::kDouble) * gain.view({-1, 1, 1, 1}))
                .to(at::kFloat)
                .contiguous(at::MemoryFormat::ChannelsLast);
  bias_ = (bn_->bias.to(at::kDouble) - bn_->running_mean.to(at::kDouble) * gain).to(at::kFloat);
  for (auto& entry : named_parameters()) entry.value().set_data(nn::placeholder(entry.value().sizes()));
}

at::Tensor BasicConv2d::before_relu(const at::Tensor& x) const {
  return at::conv2d(x, weight_, bias_, {options_.stride, options_.stride}, {options_.padding[0], options_.padding[1]});
}

at::Tensor BasicConv2d::forward(const at::Tensor& x) const { return before_relu(x).relu_(); }

std::shared_ptr<BasicConv2d> Block::branch(const char* name, std::int64_t in, std::int64_t out, std::int64_t kernel,
                                           std::int64_t stride) {
  const std::int64_t padding = stride == 1 ? kernel / 2 : 0;  // what makes the picture smaller is not padded
  convolutions_.push_back(register_module(
      name,
      std::make_shared<BasicConv2d>(in, out, BasicConv2d::Options{{kernel, kernel}, stride, {padding, padding}})));
  return convolutions_.back();
}

std::shared_ptr<BasicConv2d> Block::strip(const char* name, std::int64_t in, std::int64_t out, std::int64_t height,
                                          std::int64_t width) {
  convolutions_.push_back(register_module(
      name, std::make_shared<BasicConv2d>(in, out, BasicConv2d::Options{{height, width}, 1, {height / 2, width / 2}})));
  return convolutions_.back();
}

void Block::fold() {
  for (const auto& convolution : convolutions_) convolution->fold();
}

namespace {

class BlockA : public Block {
 public:
  BlockA(std::int64_t in, std::int64_t pool_features) {
    branch1x1 = branch("branch1x1", in, 64);
    branch5x5_1 = branch("branch5x5_1", in, 48);
    branch5x5_2 = branch("branch5x5_2", 48, 64, 5);
    branch3x3dbl_1 = branch("branch3x3dbl_1", in, 64);
    branch3x3dbl_2 = branch("branch3x3dbl_2", 64, 96, 3);
    branch3x3dbl_3 = branch("branch3x3dbl_3", 96, 96, 3);
    branch_pool = branch("branch_pool", in, pool_features);
  }

  at::Tensor forward(const at::Tensor& x) const override {
    const auto five = branch5x5_2->forward(branch5x5_1->forward(x));
    const auto three = branch3x3dbl_3->forward(branch3x3dbl_2->forward(branch3x3dbl_1->forward(x)));
    return at::cat({branch1x1->forward(x), five, three, pooled(*branch_pool, x)}, 1);
  }

 private:
  std::shared_ptr<BasicConv2d> branch1x1, branch5x5_1, branch5x5_2, branch3x3dbl_1, branch3x3dbl_2, branch3x3dbl_3,
      branch_pool;
};

class BlockB : public Block {
 public:
  explicit BlockB(std::int64_t in) {
    branch3x3 = branch("branch3x3", in, 384, 3, 2);
    branch3x3dbl_1 = branch("branch3x3dbl_1", in, 64);
    branch3x3dbl_2 = branch("branch3x3dbl_2", 64, 96, 3);
    branch3x3dbl_3 = branch("branch3x3dbl_3", 96, 96, 3, 2);
  }

  at::Tensor forward(const at::Tensor& x) const override {
    const auto three = branch3x3dbl_3->forward(branch3x3dbl_2->forward(branch3x3dbl_1->forward(x)));
    return at::cat({branch3x3->forward(x), three, maximum(x, 2, 0)}, 1);
  }

 private:
  std::shared_ptr<BasicConv2d> branch3x3, branch3x3dbl_1, branch3x3dbl_2, branch3x3dbl_3;
};

class BlockC : public Block {
 public:
  BlockC(std::int64_t in, std::int64_t c) {
    branch1x1 = branch("branch1x1", in, 192);
    branch7x7 = {branch("branch7x7_1", in, c), strip("branch7x7_2", c, c, 1, 7), strip("branch7x7_3", c, 192, 7, 1)};
    branch7x7dbl = {branch("branch7x7dbl_1", in, c), strip("branch7x7dbl_2", c, c, 7, 1),
                    strip("branch7x7dbl_3", c, c, 1, 7), strip("branch7x7dbl_4", c, c, 7, 1),
                    strip("branch7x7dbl_5", c, 192, 1, 7)};
    branch_pool = branch("branch_pool", in, 192);
  }

  at::Tensor forward(const at::Tensor& x) const override {
    auto seven = x, twice = x;
    for (const auto& convolution : branch7x7) seven = convolution->forward(seven);
    for (const auto& convolution : branch7x7dbl) twice = convolution->forward(twice);
    return at::cat({branch1x1->forward(x), seven, twice, pooled(*branch_pool, x)}, 1);
  }

 private:
  std::shared_ptr<BasicConv2d> branch1x1, branch_pool;
  std::vector<std::shared_ptr<BasicConv2d>> branch7x7, branch7x7dbl;
};

class BlockD : public Block {
 public:
  explicit BlockD(std::int64_t in) {
    branch3x3_1 = branch("branch3x3_1", in, 192);
    branch3x3_2 = branch("branch3x3_2", 192, 320, 3, 2);
    branch7x7x3 = {branch("branch7x7x3_1", in, 192), strip("branch7x7x3_2", 192, 192, 1, 7),
                   strip("branch7x7x3_3", 192, 192, 7, 1), branch("branch7x7x3_4", 192, 192, 3, 2)};
  }

  at::Tensor forward(const at::Tensor& x) const override {
    auto seven = x;
    for (const auto& convolution : branch7x7x3) seven = convolution->forward(seven);
    return at::cat({branch3x3_2->forward(branch3x3_1->forward(x)), seven, maximum(x, 2, 0)}, 1);
  }

 private:
  std::shared_ptr<BasicConv2d> branch3x3_1, branch3x3_2;
  std::vector<std::shared_ptr<BasicConv2d>> branch7x7x3;
};

class BlockE : public Block {
 public:
  BlockE(std::int64_t in, bool max_pool) : max_pool_(max_pool) {
    branch1x1 = branch("branch1x1", in, 320);
    branch3x3_1 = branch("branch3x3_1", in, 384);
    branch3x3_2a = strip("branch3x3_2a", 384, 384, 1, 3);
    branch3x3_2b = strip("branch3x3_2b", 384, 384, 3, 1);
    branch3x3dbl_1 = branch("branch3x3dbl_1", in, 448);
    branch3x3dbl_2 = branch("branch3x3dbl_2", 448, 384, 3);
    branch3x3dbl_3a = strip("branch3x3dbl_3a", 384, 384, 1, 3);
    branch3x3dbl_3b = strip("branch3x3dbl_3b", 384, 384, 3, 1);
    branch_pool = branch("branch_pool", in, 192);
  }

  at::Tensor forward(const at::Tensor& x) const override {
    const auto three = branch3x3_1->forward(x), twice = branch3x3dbl_2->forward(branch3x3dbl_1->forward(x));
    const auto pool = max_pool_ ? branch_pool->forward(maximum(x, 1, 1)) : pooled(*branch_pool, x);
    return at::cat({branch1x1->forward(x), branch3x3_2a->forward(three), branch3x3_2b->forward(three),
                    branch3x3dbl_3a->forward(twice), branch3x3dbl_3b->forward(twice), pool},
                   1);
  }

 private:
  bool max_pool_;
  std::shared_ptr<BasicConv2d> branch1x1, branch3x3_1, branch3x3_2a, branch3x3_2b, branch3x3dbl_1, branch3x3dbl_2,
      branch3x3dbl_3a, branch3x3dbl_3b, branch_pool;
};

}  // namespace

std::shared_ptr<Block> block_a(std::int64_t in, std::int64_t pool_features) {
  return std::make_shared<BlockA>(in, pool_features);
}
std::shared_ptr<Block> block_b(std::int64_t in) { return std::make_shared<BlockB>(in); }
std::shared_ptr<Block> block_c(std::int64_t in, std::int64_t channels) {
  return std::make_shared<BlockC>(in, channels);
}
std::shared_ptr<Block> block_d(std::int64_t in) { return std::make_shared<BlockD>(in); }
std::shared_ptr<Block> block_e(std::int64_t in, bool max_pool) { return std::make_shared<BlockE>(in, max_pool); }

}  // namespace atelier::models::inception
