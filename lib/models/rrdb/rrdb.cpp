#include "models/rrdb/rrdb.h"

#include <array>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/pixel_unshuffle.h>
#include <ATen/ops/reflection_pad2d.h>
#include <ATen/ops/replication_pad2d.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <fmt/format.h>

namespace atelier::models::rrdb {
namespace {

using nn::Conv2d;
using nn::Group;

constexpr double kSlope = 0.2;     // of the leaky ReLU
constexpr double kResidual = 0.2;  // what every residual is scaled by

at::Tensor leaky(at::Tensor x) {
  return at::GradMode::is_enabled() ? at::leaky_relu(x, kSlope) : at::leaky_relu_(x, kSlope);
}

std::shared_ptr<Conv2d> conv(std::int64_t in, std::int64_t out) {
  return std::make_shared<Conv2d>(in, out, Conv2d::Options{});
}

/// Five convolutions, each of which sees what all before it made.
class DenseBlock : public nn::Module {
 public:
  DenseBlock(std::int64_t features, std::int64_t growth) {
    for (std::size_t i = 0; i < convs.size(); ++i) {
      const bool last = i + 1 == convs.size();
      convs[i] = register_module(fmt::format("conv{}", i + 1),
                                 conv(features + static_cast<std::int64_t>(i) * growth, last ? features : growth));
    }
  }

  at::Tensor forward(const at::Tensor& x) const {  // (B, features, H, W), same shape
    std::vector<at::Tensor> all{x};
    for (std::size_t i = 0; i + 1 < convs.size(); ++i)
      all.push_back(leaky(convs[i]->forward(at::cat(all, 1))));  // (B, growth, H, W)
    return x + kResidual * convs.back()->forward(at::cat(all, 1));
  }

 private:
  std::array<std::shared_ptr<Conv2d>, 5> convs;
};

}  // namespace

/// Residual in residual: three dense blocks.
class Block : public nn::Module {
 public:
  Block(std::int64_t features, std::int64_t growth) {
    for (std::size_t i = 0; i < dense.size(); ++i)
      dense[i] = register_module(fmt::format("rdb{}", i + 1), std::make_shared<DenseBlock>(features, growth));
  }

  at::Tensor forward(const at::Tensor& x) const {  // (B, features, H, W), same shape
    auto h = x;
    for (const auto& block : dense) h = block->forward(h);
    return x + kResidual * h;
  }

 private:
  std::array<std::shared_ptr<DenseBlock>, 3> dense;
};

RrdbNet::RrdbNet(const Config& c) : config_(c) {
  conv_first_ = register_module("conv_first", conv(3 * c.unshuffle * c.unshuffle, c.features));
  auto body = register_module("body", std::make_shared<Group>());
  for (std::int64_t i = 0; i < c.blocks; ++i)
    body_.push_back(body->append(std::make_shared<Block>(c.features, c.growth)));
  conv_body_ = register_module("conv_body", conv(c.features, c.features));
  for (std::int64_t i = 0; i < c.upsamplers; ++i)
    conv_up_.push_back(register_module(fmt::format("conv_up{}", i + 1), conv(c.features, c.features)));
  conv_hr_ = register_module("conv_hr", conv(c.features, c.features));
  conv_last_ = register_module("conv_last", conv(c.features, 3));
}

at::Tensor RrdbNet::forward(const at::Tensor& pictures) const {
  const std::int64_t fold = config_.unshuffle, height = pictures.size(2), width = pictures.size(3);
  const std::int64_t below = (fold - height % fold) % fold, right = (fold - width % fold) % fold;
  auto x = pictures;
  if (below > 0 || right > 0)  // Real-ESRGAN mirrors; where a picture is too small for that its edge is repeated
    x = height > below && width > right ? at::reflection_pad2d(x, {0, right, 0, below})
                                        : at::replication_pad2d(x, {0, right, 0, below});
  if (fold > 1) x = at::pixel_unshuffle(x, fold);                          // (B, 3 fold^2, H / fold, W / fold)
  x = conv_first_->forward(x.contiguous(at::MemoryFormat::ChannelsLast));  // (B, features, ...)
  auto h = x;
  for (const auto& block : body_) h = block->forward(h);
  x = x + conv_body_->forward(h);
  h = at::Tensor();
  for (const auto& up : conv_up_) x = leaky(up->forward(at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)})));
  x = conv_last_->forward(leaky(conv_hr_->forward(x)));  // (B, 3, ...)
  return x.narrow(2, 0, height * config_.scale()).narrow(3, 0, width * config_.scale()).contiguous();
}

}  // namespace atelier::models::rrdb
