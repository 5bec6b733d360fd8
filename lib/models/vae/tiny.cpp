#include <functional>

#include <ATen/ops/tanh.h>
#include <ATen/ops/upsample_nearest2d.h>

#include "models/vae/autoencoder.h"

namespace atelier::models::vae {
namespace {

using nn::Conv2d;
using nn::Group;

/// Three convolutions and a residual; convolutions 0, 2 and 4 of `conv`.
class TinyBlock : public nn::Module {
 public:
  TinyBlock(std::int64_t channels, nn::Activation activation) : activation_(activation) {
    auto conv = register_module("conv", std::make_shared<Group>());
    for (const char* place : {"0", "2", "4"})
      convs_.push_back(conv->register_module(place, std::make_shared<Conv2d>(channels, channels, Conv2d::Options{})));
  }

  at::Tensor forward(const at::Tensor& x) const {  // (B, C, H, W), same shape
    auto h = nn::activate(activation_, convs_[0]->forward(x));
    h = nn::activate(activation_, convs_[1]->forward(h));
    return nn::activate(nn::Activation::relu, nn::add_into(convs_[2]->forward(h), x));
  }

 private:
  nn::Activation activation_;
  std::vector<std::shared_ptr<Conv2d>> convs_;
};

}  // namespace

/// Encoder or decoder: a chain whose links have the places of the reference's nn.Sequential.
class TinyCoder : public nn::Module {
 public:
  TinyCoder() { layers_ = register_module("layers", std::make_shared<Group>()); }

  void conv(std::int64_t in, std::int64_t out, std::int64_t stride, bool bias) {
    add(layers_->register_module(next(),
                                 std::make_shared<Conv2d>(in, out, Conv2d::Options{.stride = stride, .bias = bias})));
  }
  void blocks(std::int64_t count, std::int64_t channels, nn::Activation activation) {
    for (std::int64_t i = 0; i < count; ++i)
      add(layers_->register_module(next(), std::make_shared<TinyBlock>(channels, activation)));
  }
  void activation(nn::Activation kind) {
    next();
    links_.push_back([kind](const at::Tensor& x) { return nn::activate(kind, x); });
  }
  void upsample(std::int64_t factor) {
    next();
    links_.push_back([factor](const at::Tensor& x) {
      return at::upsample_nearest2d(x, {x.size(2) * factor, x.size(3) * factor});
    });
  }

  at::Tensor forward(at::Tensor x) const {
    x = x.contiguous(at::MemoryFormat::ChannelsLast);
    for (const auto& link : links_) x = link(x);
    return x;
  }
  at::Tensor first_weight() const { return named_parameters().front().value(); }

 private:
  std::string next() { return std::to_string(count_++); }
  template <class M>
  void add(std::shared_ptr<M> module) {
    links_.push_back([module](const at::Tensor& x) { return module->forward(x); });
  }

  std::shared_ptr<Group> layers_;
  std::vector<std::function<at::Tensor(const at::Tensor&)>> links_;
  int count_ = 0;
};

AutoencoderTiny::AutoencoderTiny(const TinyConfig& c) : config_(c) {
  encoder_ = register_module("encoder", std::make_shared<TinyCoder>());
  for (std::size_t i = 0; i < c.encoder_blocks.size(); ++i) {
    const std::int64_t width = c.encoder_channels[i];
    encoder_->conv(i == 0 ? c.in_channels : width, width, i == 0 ? 1 : 2, /*bias=*/i == 0);
    encoder_->blocks(c.encoder_blocks[i], width, c.activation);
  }
  encoder_->conv(c.encoder_channels.back(), c.latent_channels, 1, true);

  decoder_ = register_module("decoder", std::make_shared<TinyCoder>());
  decoder_->conv(c.latent_channels, c.decoder_channels[0], 1, true);
  decoder_->activation(c.activation);
  for (std::size_t i = 0; i < c.decoder_blocks.size(); ++i) {
    const std::int64_t width = c.decoder_channels[i];
    const bool last = i + 1 == c.decoder_blocks.size();
    decoder_->blocks(c.decoder_blocks[i], width, c.activation);
    if (!last) decoder_->upsample(c.upsampling_factor);
    decoder_->conv(width, last ? c.out_channels : width, 1, /*bias=*/last);
  }
}

at::ScalarType AutoencoderTiny::dtype() const { return decoder_->first_weight().scalar_type(); }
at::Device AutoencoderTiny::device() const { return decoder_->first_weight().device(); }

Distribution AutoencoderTiny::encode(const at::Tensor& pictures, const Tiling&) const {
  const std::int64_t together = pictures.device().is_cpu() ? 1 : 0;
  return {nn::by_rows(pictures.size(0), together,
                      [&](std::int64_t begin, std::int64_t count) {
                        // It works on [0, 1].
                        return encoder_->forward(pictures.narrow(0, begin, count).add(1).div(2));
                      })
              .contiguous(),
          {}};
}

at::Tensor AutoencoderTiny::decode(const at::Tensor& latents, const Tiling&) const {
  const std::int64_t together = latents.device().is_cpu() ? 1 : 0;
  return nn::by_rows(latents.size(0), together,
                     [&](std::int64_t begin, std::int64_t count) {
                       const auto soft =
                           at::tanh(latents.narrow(0, begin, count) / 3) * 3;  // a gentle clamp to [-3, 3]
                       return decoder_->forward(soft).mul(2).sub(1);
                     })
      .contiguous();
}

at::Tensor AutoencoderTiny::scale(const at::Tensor& z) const {
  return (z - config_.shift_factor) * config_.scaling_factor;
}
at::Tensor AutoencoderTiny::unscale(const at::Tensor& z) const {
  return z / config_.scaling_factor + config_.shift_factor;
}

}  // namespace atelier::models::vae
