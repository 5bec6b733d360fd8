#include "models/controlnet/controlnet.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/mean.h>
#include <fmt/format.h>

#include "base/error.h"
#include "models/unet/blocks.h"

namespace atelier::models::controlnet {

using nn::Conv2d;
using nn::Group;

/// From the picture to the size of the latents: pairs of convolutions, of which the second halves each side.
class ConditioningEmbedding : public nn::Module {
 public:
  ConditioningEmbedding(const Config& c, std::int64_t out) {
    const auto& channels = c.embedding_channels;
    conv_in = register_module("conv_in", std::make_shared<Conv2d>(3, channels[0], Conv2d::Options{}));
    auto group = register_module("blocks", std::make_shared<Group>());
    for (std::size_t i = 0; i + 1 < channels.size(); ++i) {
      blocks.push_back(group->append(std::make_shared<Conv2d>(channels[i], channels[i], Conv2d::Options{})));
      blocks.push_back(
          group->append(std::make_shared<Conv2d>(channels[i], channels[i + 1], Conv2d::Options{.stride = 2})));
    }
    conv_out = register_module("conv_out", std::make_shared<Conv2d>(channels.back(), out, Conv2d::Options{}));
  }

  at::Tensor forward(const at::Tensor& picture) const {
    auto x = nn::activate(nn::Activation::silu, conv_in->forward(picture));
    for (const auto& block : blocks) x = nn::activate(nn::Activation::silu, block->forward(x));
    return conv_out->forward(x);
  }

 private:
  std::shared_ptr<Conv2d> conv_in, conv_out;
  std::vector<std::shared_ptr<Conv2d>> blocks;
};

ControlNet::ControlNet(const Config& config) : config_(config) {
  const unet::Config& c = config_.encoder;
  const std::int64_t first = c.levels.front().channels;
  const Conv2d::Options point{.kernel = 1, .padding = 0};
  conv_in_ = register_module("conv_in", std::make_shared<Conv2d>(c.in_channels, first, Conv2d::Options{}));
  time_embedding_ = register_module("time_embedding",
                                    std::make_shared<unet::TimestepEmbedding>(first, c.time_embedding, c.activation));
  if (c.has_addition())
    add_embedding_ = register_module("add_embedding", std::make_shared<unet::TimestepEmbedding>(
                                                          c.addition_input, c.time_embedding, nn::Activation::silu));
  conditioning_ = register_module("controlnet_cond_embedding", std::make_shared<ConditioningEmbedding>(config_, first));
  auto down = register_module("down_blocks", std::make_shared<Group>());
  auto zeros = register_module("controlnet_down_blocks", std::make_shared<Group>());
  const auto add_zero = [&](std::int64_t channels) {
    zero_convolutions_.push_back(zeros->append(std::make_shared<Conv2d>(channels, channels, point)));
  };
  add_zero(first);
  for (std::size_t i = 0; i < c.levels.size(); ++i) {
    down_blocks_.push_back(down->append(std::make_shared<unet::DownBlock>(c, i)));
    const bool halves = i + 1 < c.levels.size();
    for (std::int64_t k = 0; k < c.levels[i].resnets + (halves ? 1 : 0); ++k) add_zero(c.levels[i].channels);
  }
  mid_block_ = register_module("mid_block", std::make_shared<unet::MidBlock>(c, config_.mid_attention));
  const std::int64_t last = c.levels.back().channels;
  mid_zero_convolution_ = register_module("controlnet_mid_block", std::make_shared<Conv2d>(last, last, point));
}

at::Tensor ControlNet::embed(const at::Tensor& picture) const {
  const auto in = config_.bgr ? at::flip(picture, {1}) : picture;  // (B, 3, height, width)
  return conditioning_->forward(in.contiguous(at::MemoryFormat::ChannelsLast));
}

at::Tensor ControlNet::finish(at::Tensor residual, double scale) const {
  if (scale != 1) residual = residual * scale;
  return config_.global_pool ? at::mean(residual, {2, 3}, /*keepdim=*/true) : residual;  // (B, C, 1, 1)
}

Residuals ControlNet::forward_rows(const unet::Input& in, const at::Tensor& embedding, double scale) const {
  const auto time = embed_time(config_.encoder, in, *time_embedding_, add_embedding_.get(), dtype());
  auto x = conv_in_->forward(in.sample.contiguous(at::MemoryFormat::ChannelsLast)) + embedding;  // (B, channels, H, W)
  std::vector<at::Tensor> skips{x};
  for (const auto& block : down_blocks_) x = block->forward(x, time, in.context, skips);
  x = mid_block_->forward(x, time, in.context);
  Residuals result;
  for (std::size_t i = 0; i < skips.size(); ++i)
    result.down.push_back(finish(zero_convolutions_[i]->forward(skips[i]), scale));
  result.mid = finish(mid_zero_convolution_->forward(x), scale);
  return result;
}

Residuals ControlNet::forward(const unet::Input& in, const at::Tensor& embedding, double scale) const {
  check_input(config_.encoder, in, "the ControlNet");
  const std::int64_t batch = in.sample.size(0);
  if (embedding.size(2) != in.sample.size(2) || embedding.size(3) != in.sample.size(3) ||
      (embedding.size(0) != 1 && embedding.size(0) != batch))
    throw base::Error(base::ExitCode::data,
                      fmt::format("the ControlNet makes {}x{} of its picture, the latents have {}x{}",
                                  embedding.size(3), embedding.size(2), in.sample.size(3), in.sample.size(2)));
  const std::int64_t together = in.sample.device().is_cpu() && in.rows_together > 0 ? in.rows_together : batch;
  std::vector<std::vector<at::Tensor>> parts(zero_convolutions_.size() + 1);  // of each residual, the middle's last
  for (std::int64_t i = 0; i < batch; i += together) {
    const std::int64_t count = std::min(together, batch - i);
    auto part =
        forward_rows(in.rows(i, count), embedding.size(0) == 1 ? embedding : embedding.narrow(0, i, count), scale);
    part.down.push_back(std::move(part.mid));
    for (std::size_t k = 0; k < parts.size(); ++k) parts[k].push_back(std::move(part.down[k]));
  }
  Residuals result;
  for (auto& rows : parts) result.down.push_back(rows.size() == 1 ? std::move(rows[0]) : nn::join_rows(rows));
  result.mid = std::move(result.down.back());
  result.down.pop_back();
  return result;
}

}  // namespace atelier::models::controlnet
