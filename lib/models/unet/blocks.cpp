#include "models/unet/blocks.h"

#include <cmath>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/sin.h>

#include "nn/checkpoint.h"

namespace atelier::models::unet {
namespace {

using nn::Group;
using nn::ResnetBlock2D;

std::shared_ptr<ResnetBlock2D> resnet(const Config& c, std::int64_t in, std::int64_t out, double output_scale = 1) {
  return std::make_shared<ResnetBlock2D>(ResnetBlock2D::Options{.in = in,
                                                                .out = out,
                                                                .time_channels = c.time_embedding,
                                                                .groups = c.norm_groups,
                                                                .eps = c.norm_eps,
                                                                .activation = c.activation,
                                                                .output_scale = output_scale});
}

std::shared_ptr<Transformer2D> transformer(const Config& c, const Level& level, std::int64_t depth,
                                           std::int64_t context) {
  return std::make_shared<Transformer2D>(TransformerOptions{.channels = level.channels,
                                                            .heads = level.heads,
                                                            .depth = depth,
                                                            .context = context,
                                                            .groups = c.norm_groups,
                                                            .linear_projection = c.linear_projection,
                                                            .upcast = c.upcast_attention});
}

at::Tensor run(const std::shared_ptr<ResnetBlock2D>& block, const at::Tensor& x, const at::Tensor& time,
               bool checkpointing) {
  // Where nothing in it is trained it keeps its input and what its first convolution gives: computing both convolutions again
  // would save little.
  const auto trained = checkpointing ? nn::trained_tensors(*block) : std::vector<at::Tensor>();
  if (trained.empty()) return block->forward(x, time);
  const auto work = [block](const std::vector<at::Tensor>& in) { return block->forward(in[0], in[1]); };
  return nn::checkpoint(work, std::vector<at::Tensor>{x, time}, trained);
}

}  // namespace

at::Tensor sinusoids(const at::Tensor& values, std::int64_t size, bool flip_sin_to_cos, double freq_shift) {
  const std::int64_t half = size / 2;
  auto exponent = at::arange(half, values.options().dtype(at::kFloat)).mul(-std::log(10000.0));
  exponent = exponent / (static_cast<double>(half) - freq_shift);
  const auto angles = values.reshape({-1, 1}).to(at::kFloat) * at::exp(exponent).unsqueeze(0);  // (B, half)
  auto both = flip_sin_to_cos ? at::cat({at::cos(angles), at::sin(angles)}, -1)
                              : at::cat({at::sin(angles), at::cos(angles)}, -1);
  return size % 2 == 0 ? both : at::constant_pad_nd(both, {0, 1});
}

TimestepEmbedding::TimestepEmbedding(std::int64_t in, std::int64_t out, nn::Activation activation,
                                     std::int64_t condition)
    : activation_(activation) {
  linear_1 = register_module("linear_1", std::make_shared<nn::Linear>(in, out, true));
  if (condition > 0) cond_proj = register_module("cond_proj", std::make_shared<nn::Linear>(condition, in));
  linear_2 = register_module("linear_2", std::make_shared<nn::Linear>(out, out, true));
}

at::Tensor TimestepEmbedding::forward(const at::Tensor& x, const at::Tensor& condition) const {
  const auto in = cond_proj && condition.defined() ? x + cond_proj->forward(condition) : x;
  return linear_2->forward(nn::activate(activation_, linear_1->forward(in)));
}

DownBlock::DownBlock(const Config& c, std::size_t index) {
  const Level& level = c.levels[index];
  const std::int64_t in = c.levels[index == 0 ? 0 : index - 1].channels;
  if (level.down_attention) {
    auto attentions = register_module("attentions", std::make_shared<Group>());
    for (std::int64_t i = 0; i < level.resnets; ++i)
      attentions_.push_back(attentions->append(transformer(c, level, level.depth, level.context)));
  }
  auto resnets = register_module("resnets", std::make_shared<Group>());
  for (std::int64_t i = 0; i < level.resnets; ++i)
    resnets_.push_back(resnets->append(resnet(c, i == 0 ? in : level.channels, level.channels)));
  if (index + 1 < c.levels.size())
    downsampler_ = register_module("downsamplers", std::make_shared<Group>())
                       ->append(std::make_shared<nn::Downsample2D>(level.channels, c.downsample_padding));
}

at::Tensor DownBlock::forward(at::Tensor x, const at::Tensor& time, const at::Tensor& context,
                              std::vector<at::Tensor>& skips, bool checkpointing) const {
  for (std::size_t i = 0; i < resnets_.size(); ++i) {
    x = run(resnets_[i], x, time, checkpointing);
    if (!attentions_.empty()) x = attentions_[i]->forward(x, context, checkpointing);
    skips.push_back(x);
  }
  if (downsampler_) skips.push_back(x = downsampler_->forward(x));
  return x;
}

MidBlock::MidBlock(const Config& c, bool attention) {
  const Level& level = c.levels.back();
  if (attention)
    attention_ = register_module("attentions", std::make_shared<Group>())
                     ->append(transformer(c, level, level.depth, level.context));
  auto resnets = register_module("resnets", std::make_shared<Group>());
  first_ = resnets->append(resnet(c, level.channels, level.channels, c.mid_scale));
  if (attention) second_ = resnets->append(resnet(c, level.channels, level.channels, c.mid_scale));
}

at::Tensor MidBlock::forward(at::Tensor x, const at::Tensor& time, const at::Tensor& context,
                             bool checkpointing) const {
  x = run(first_, x, time, checkpointing);
  return attention_ ? run(second_, attention_->forward(x, context, checkpointing), time, checkpointing) : x;
}

UpBlock::UpBlock(const Config& c, std::size_t index) {
  const std::size_t last = c.levels.size() - 1, place = last - index;
  const Level& level = c.levels[place];
  const std::int64_t below = c.levels[index == 0 ? last : place + 1].channels;  // what comes in from the coarser level
  const std::int64_t above = c.levels[place == 0 ? 0 : place - 1].channels;  // what the first resnet's skip came from
  const std::int64_t count = level.resnets + 1;
  if (level.up_attention) {
    auto attentions = register_module("attentions", std::make_shared<Group>());
    for (std::int64_t i = 0; i < count; ++i)
      attentions_.push_back(attentions->append(transformer(c, level, level.up_depth, level.context)));
  }
  auto resnets = register_module("resnets", std::make_shared<Group>());
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t skip = i + 1 == count ? above : level.channels;
    resnets_.push_back(resnets->append(resnet(c, (i == 0 ? below : level.channels) + skip, level.channels)));
  }
  if (place > 0)
    upsampler_ = register_module("upsamplers", std::make_shared<Group>())
                     ->append(std::make_shared<nn::Upsample2D>(level.channels));
}

at::Tensor UpBlock::forward(at::Tensor x, const at::Tensor& time, const at::Tensor& context,
                            std::vector<at::Tensor>& skips, bool checkpointing) const {
  for (std::size_t i = 0; i < resnets_.size(); ++i) {
    x = run(resnets_[i], at::cat({x, skips.back()}, 1), time, checkpointing);
    skips.pop_back();
    if (!attentions_.empty()) x = attentions_[i]->forward(x, context, checkpointing);
  }
  // The size of the next skip: twice the size, or one less where the way down rounded up.
  return upsampler_ ? upsampler_->forward(x, skips.back().size(2), skips.back().size(3)) : x;
}

}  // namespace atelier::models::unet
