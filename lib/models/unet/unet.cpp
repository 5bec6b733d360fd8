#include "models/unet/unet.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "models/unet/blocks.h"

namespace atelier::models::unet {
namespace {

void want(bool holds, const std::string& message) {
  if (!holds) throw base::Error(base::ExitCode::data, message);
}

}  // namespace

UNet::UNet(const Config& c) : config_(c) {
  const std::int64_t first = c.levels.front().channels;
  const auto conv = [&](const char* name, std::int64_t in, std::int64_t out, std::int64_t kernel) {
    const nn::Conv2d::Options options{.kernel = kernel, .padding = (kernel - 1) / 2};
    return register_module(name, std::make_shared<nn::Conv2d>(in, out, options));
  };
  conv_in_ = conv("conv_in", c.in_channels, first, c.conv_in_kernel);
  time_embedding_ = register_module(
      "time_embedding", std::make_shared<TimestepEmbedding>(first, c.time_embedding, c.activation, c.time_cond_proj));
  if (c.has_addition())
    add_embedding_ = register_module(
        "add_embedding", std::make_shared<TimestepEmbedding>(c.addition_input, c.time_embedding, nn::Activation::silu));
  auto down = register_module("down_blocks", std::make_shared<nn::Group>());
  auto up = register_module("up_blocks", std::make_shared<nn::Group>());
  for (std::size_t i = 0; i < c.levels.size(); ++i) {
    down_blocks_.push_back(down->append(std::make_shared<DownBlock>(c, i)));
    up_blocks_.push_back(up->append(std::make_shared<UpBlock>(c, i)));
  }
  mid_block_ = register_module("mid_block", std::make_shared<MidBlock>(c));
  conv_norm_out_ = register_module("conv_norm_out", std::make_shared<nn::GroupNorm>(c.norm_groups, first, c.norm_eps));
  conv_out_ = conv("conv_out", first, c.out_channels, c.conv_out_kernel);
}

at::Tensor UNet::forward_rows(const Input& in) const {
  auto x = config_.center_input ? 2 * in.sample - 1 : in.sample;
  const auto time = embed_time(config_, in, *time_embedding_, add_embedding_.get(), dtype());
  // With channels last pixels are rows: attention needs no copies, and convolutions are faster.
  x = conv_in_->forward(x.contiguous(at::MemoryFormat::ChannelsLast));  // (B, channels, H, W)
  std::vector<at::Tensor> skips{x};
  for (const auto& block : down_blocks_) x = block->forward(x, time, in.context, skips, in.checkpointing);
  want(in.down_residuals.empty() || in.down_residuals.size() == skips.size(),
       fmt::format("the UNet has {} skips, the ControlNet gives {}", skips.size(), in.down_residuals.size()));
  for (std::size_t i = 0; i < in.down_residuals.size(); ++i) skips[i] = skips[i] + in.down_residuals[i];
  x = mid_block_->forward(x, time, in.context, in.checkpointing);
  if (in.mid_residual.defined()) x = x + in.mid_residual;
  for (const auto& block : up_blocks_) x = block->forward(x, time, in.context, skips, in.checkpointing);
  x = at::GradMode::is_enabled() ? nn::activate(config_.activation, conv_norm_out_->forward(x))
                                 : conv_norm_out_->activated(config_.activation, x);
  return conv_out_->forward(x).contiguous();  // (B, out_channels, H, W)
}

at::Tensor UNet::forward(const Input& in) const {
  check_input(config_, in, "the UNet");
  const std::int64_t together = in.sample.device().is_cpu() ? in.rows_together : 0;
  return nn::by_rows(in.sample.size(0), together,
                     [&](std::int64_t begin, std::int64_t count) { return forward_rows(in.rows(begin, count)); });
}

}  // namespace atelier::models::unet
