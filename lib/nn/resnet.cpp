#include "nn/resnet.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/upsample_nearest2d.h>

#include "nn/checkpoint.h"

namespace atelier::nn {

namespace {

/// The activated norm. Training computes it again in the backward pass: a frozen convolution behind it keeps nothing, so that of
/// both only x stays in memory.
at::Tensor activated(Activation activation, const std::shared_ptr<GroupNorm>& norm, const at::Tensor& x) {
  const auto work = [activation, norm](const at::Tensor& in) { return activate(activation, norm->forward(in)); };
  return checkpoint(work, x, trained_tensors(*norm));
}

}  // namespace

ResnetBlock2D::ResnetBlock2D(const Options& o) : activation_(o.activation), output_scale_(o.output_scale) {
  norm1 = register_module("norm1", std::make_shared<GroupNorm>(o.groups, o.in, o.eps));
  conv1 = register_module("conv1", std::make_shared<Conv2d>(o.in, o.out, Conv2d::Options{}));
  if (o.time_channels > 0)
    time_emb_proj = register_module("time_emb_proj", std::make_shared<Linear>(o.time_channels, o.out, true));
  norm2 = register_module("norm2", std::make_shared<GroupNorm>(o.groups, o.out, o.eps));
  conv2 = register_module("conv2", std::make_shared<Conv2d>(o.out, o.out, Conv2d::Options{}));
  if (o.in != o.out)
    conv_shortcut = register_module("conv_shortcut",
                                    std::make_shared<Conv2d>(o.in, o.out, Conv2d::Options{.kernel = 1, .padding = 0}));
}

at::Tensor ResnetBlock2D::time_shift(const at::Tensor& time) const {
  if (!time_emb_proj) return {};
  // The embedding serves every block, so it is not activated in place.
  const auto active = activation_ == Activation::silu ? at::silu(time) : activate(activation_, time.clone());
  return time_emb_proj->forward(active);
}

at::Tensor ResnetBlock2D::forward(const at::Tensor& x, const at::Tensor& time) const {
  const at::Tensor shift = time_shift(time);  // (B, out)
  at::Tensor h;                               // (B, out, H, W)
  if (at::GradMode::is_enabled()) {
    h = conv1->forward(activated(activation_, norm1, x));
    if (shift.defined()) h = add_into(h, shift.unsqueeze(-1).unsqueeze(-1));
    h = activated(activation_, norm2, h);
  } else {
    h = conv1->forward(norm1->activated(activation_, x));
    h = norm2->activated(activation_, h, shift, /*x_is_free=*/true);
  }
  h = conv2->forward_plus(h, conv_shortcut ? conv_shortcut->forward(x) : x);
  return output_scale_ == 1 ? h : h / output_scale_;
}

Downsample2D::Downsample2D(std::int64_t channels, std::int64_t padding) : padding_(padding) {
  conv = register_module(
      "conv", std::make_shared<Conv2d>(channels, channels, Conv2d::Options{.stride = 2, .padding = padding}));
}

at::Tensor Downsample2D::forward(const at::Tensor& x) const {
  return conv->forward(padding_ == 0 ? at::constant_pad_nd(x, {0, 1, 0, 1}) : x);
}

Upsample2D::Upsample2D(std::int64_t channels) {
  conv = register_module("conv", std::make_shared<Conv2d>(channels, channels, Conv2d::Options{}));
}

at::Tensor Upsample2D::forward(const at::Tensor& x, std::int64_t height, std::int64_t width) const {
  if (height == 0) height = 2 * x.size(2);
  if (width == 0) width = 2 * x.size(3);
  return conv->forward(at::upsample_nearest2d(x, {height, width}));
}

}  // namespace atelier::nn
