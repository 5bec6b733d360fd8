#include "models/vae/coders.h"

namespace atelier::models::vae {
namespace {

using nn::Conv2d;
using nn::Group;
using nn::ResnetBlock2D;

constexpr double eps = 1e-6;

std::shared_ptr<ResnetBlock2D> resnet(const Config& c, std::int64_t in, std::int64_t out) {
  return std::make_shared<ResnetBlock2D>(
      ResnetBlock2D::Options{.in = in, .out = out, .groups = c.norm_groups, .eps = eps, .activation = c.activation});
}

/// `resnets` of one level, registered with it.
CoderLevel add_level(const Config& c, Group& level, std::int64_t count, std::int64_t in, std::int64_t out) {
  CoderLevel result;
  auto resnets = level.register_module("resnets", std::make_shared<Group>());
  for (std::int64_t i = 0; i < count; ++i) result.resnets.push_back(resnets->append(resnet(c, i == 0 ? in : out, out)));
  return result;
}

at::Tensor channels_last(const at::Tensor& x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

}  // namespace

PixelAttention::PixelAttention(std::int64_t channels, std::int64_t groups) {
  const auto linear = [&] { return std::make_shared<nn::Linear>(channels, channels, true); };
  group_norm = register_module("group_norm", std::make_shared<nn::GroupNorm>(groups, channels, eps));
  to_q = register_module("to_q", linear());
  to_k = register_module("to_k", linear());
  to_v = register_module("to_v", linear());
  to_out = register_module("to_out", std::make_shared<Group>())->append(linear());
}

at::Tensor PixelAttention::forward(const at::Tensor& x) const {
  const std::int64_t b = x.size(0), c = x.size(1), height = x.size(2), width = x.size(3);
  const auto pixels = group_norm->forward(x).permute({0, 2, 3, 1}).reshape({b, height * width, c});  // (B, HW, C)
  const auto y = to_out->forward(
      nn::multi_head_attention(to_q->forward(pixels), to_k->forward(pixels), to_v->forward(pixels), /*heads=*/1));
  return nn::add_into(y.view({b, height, width, c}).permute({0, 3, 1, 2}), x);
}

MidBlock::MidBlock(const Config& c) {
  const std::int64_t channels = c.channels.back();
  if (c.mid_attention)
    attention_ = register_module("attentions", std::make_shared<Group>())
                     ->append(std::make_shared<PixelAttention>(channels, c.norm_groups));
  auto resnets = register_module("resnets", std::make_shared<Group>());
  first_ = resnets->append(resnet(c, channels, channels));
  second_ = resnets->append(resnet(c, channels, channels));
}

at::Tensor MidBlock::forward(const at::Tensor& x) const {
  auto h = first_->forward(x);
  if (attention_) h = attention_->forward(h);
  return second_->forward(h);
}

Encoder::Encoder(const Config& c) : activation_(c.activation) {
  const std::size_t n = c.channels.size();
  conv_in_ = register_module("conv_in", std::make_shared<Conv2d>(c.in_channels, c.channels[0], Conv2d::Options{}));
  auto blocks = register_module("down_blocks", std::make_shared<Group>());
  for (std::size_t i = 0; i < n; ++i) {
    auto block = blocks->append(std::make_shared<Group>());
    levels_.push_back(add_level(c, *block, c.layers_per_block, c.channels[i == 0 ? 0 : i - 1], c.channels[i]));
    if (i + 1 < n)
      levels_.back().downsampler = block->register_module("downsamplers", std::make_shared<Group>())
                                       ->append(std::make_shared<nn::Downsample2D>(c.channels[i], 0));
  }
  mid_block_ = register_module("mid_block", std::make_shared<MidBlock>(c));
  conv_norm_out_ =
      register_module("conv_norm_out", std::make_shared<nn::GroupNorm>(c.norm_groups, c.channels.back(), eps));
  conv_out_ = register_module("conv_out",
                              std::make_shared<Conv2d>(c.channels.back(), 2 * c.latent_channels, Conv2d::Options{}));
}

at::Tensor Encoder::forward(const at::Tensor& pictures) const {
  auto x = conv_in_->forward(channels_last(pictures));
  for (const auto& level : levels_) {
    for (const auto& block : level.resnets) x = block->forward(x);
    if (level.downsampler) x = level.downsampler->forward(x);
  }
  x = mid_block_->forward(x);
  return conv_out_->forward(conv_norm_out_->activated(activation_, x));
}

Decoder::Decoder(const Config& c) : activation_(c.activation) {
  const std::size_t n = c.channels.size();
  conv_in_ =
      register_module("conv_in", std::make_shared<Conv2d>(c.latent_channels, c.channels.back(), Conv2d::Options{}));
  auto blocks = register_module("up_blocks", std::make_shared<Group>());
  std::int64_t in = c.channels.back();
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t out = c.channels[n - 1 - i];
    auto block = blocks->append(std::make_shared<Group>());
    levels_.push_back(add_level(c, *block, c.layers_per_block + 1, in, out));
    if (i + 1 < n)
      levels_.back().upsampler = block->register_module("upsamplers", std::make_shared<Group>())
                                     ->append(std::make_shared<nn::Upsample2D>(out));
    in = out;
  }
  mid_block_ = register_module("mid_block", std::make_shared<MidBlock>(c));
  conv_norm_out_ = register_module("conv_norm_out", std::make_shared<nn::GroupNorm>(c.norm_groups, c.channels[0], eps));
  conv_out_ = register_module("conv_out", std::make_shared<Conv2d>(c.channels[0], c.out_channels, Conv2d::Options{}));
}

at::Tensor Decoder::forward(const at::Tensor& latents) const {
  auto x = mid_block_->forward(conv_in_->forward(channels_last(latents)));
  for (const auto& level : levels_) {
    for (const auto& block : level.resnets) x = block->forward(x);
    if (level.upsampler) x = level.upsampler->forward(x);
  }
  return conv_out_->forward(conv_norm_out_->activated(activation_, x));
}

}  // namespace atelier::models::vae
