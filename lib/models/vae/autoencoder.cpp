#include "models/vae/autoencoder.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <ATen/ops/clamp.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include "models/vae/coders.h"
#include "models/vae/tiling.h"

namespace atelier::models::vae {
namespace {

void want_channels(const at::Tensor& x, std::int64_t channels, const char* what) {
  if (x.dim() == 4 && x.size(1) == channels) return;
  throw base::Error(base::ExitCode::data, fmt::format("the autoencoder takes {} of {} channels, not {}", what, channels,
                                                      x.dim() == 4 ? x.size(1) : 0));
}

/// One picture at a time on the CPU: the same bits whatever the batch, and the memory of one.
std::int64_t together(const at::Tensor& x) { return x.device().is_cpu() ? 1 : 0; }

/// A number for each channel, shaped (1, C, 1, 1).
at::Tensor per_channel(const std::vector<double>& numbers, const at::Tensor& like) {
  return at::tensor(at::ArrayRef<double>(numbers), like.options()).view({1, -1, 1, 1});
}

}  // namespace

at::Tensor Distribution::std() const { return logvar.defined() ? at::exp(0.5 * logvar) : at::zeros_like(mean); }

AutoencoderKl::AutoencoderKl(const Config& c) : config_(c) {
  const nn::Conv2d::Options point{.kernel = 1, .padding = 0};
  const std::int64_t z = c.latent_channels;
  encoder_ = register_module("encoder", std::make_shared<Encoder>(c));
  decoder_ = register_module("decoder", std::make_shared<Decoder>(c));
  if (c.quant_conv) quant_conv_ = register_module("quant_conv", std::make_shared<nn::Conv2d>(2 * z, 2 * z, point));
  if (c.post_quant_conv)
    post_quant_conv_ = register_module("post_quant_conv", std::make_shared<nn::Conv2d>(z, z, point));
}

at::ScalarType AutoencoderKl::dtype() const { return decoder_->first_weight().scalar_type(); }
at::Device AutoencoderKl::device() const { return decoder_->first_weight().device(); }

at::Tensor AutoencoderKl::encode_tile(const at::Tensor& pictures) const {
  const auto moments = encoder_->forward(pictures);  // (B, 2 latent_channels, h, w)
  return quant_conv_ ? quant_conv_->forward(moments) : moments;
}

at::Tensor AutoencoderKl::decode_tile(const at::Tensor& latents) const {
  return decoder_->forward(post_quant_conv_ ? post_quant_conv_->forward(latents) : latents);
}

namespace {

struct TileSizes {
  std::int64_t sample, latent, step_sample, step_latent, blend_sample, blend_latent;
};

TileSizes tile_sizes(const Tiling& tiling, std::int64_t default_size, std::int64_t downscale) {
  const std::int64_t sample = std::max(tiling.sample_size > 0 ? tiling.sample_size : default_size, 2 * downscale);
  const std::int64_t latent = sample / downscale;
  const double overlap = std::clamp(tiling.overlap, 0.0, 0.5);
  const auto part = [](std::int64_t size, double share) {
    return static_cast<std::int64_t>(static_cast<double>(size) * share);
  };
  return {sample,
          latent,
          std::max<std::int64_t>(1, part(sample, 1 - overlap)),
          std::max<std::int64_t>(1, part(latent, 1 - overlap)),
          part(sample, overlap),
          part(latent, overlap)};
}

}  // namespace

Distribution AutoencoderKl::encode(const at::Tensor& pictures, const Tiling& tiling) const {
  want_channels(pictures, config_.in_channels, "pictures");
  const TileSizes t = tile_sizes(tiling, config_.sample_size, downscale());
  const bool tiled = tiling.enabled && (pictures.size(2) > t.sample || pictures.size(3) > t.sample);
  const auto moments = nn::by_rows(pictures.size(0), together(pictures), [&](std::int64_t begin, std::int64_t count) {
    const auto rows = pictures.narrow(0, begin, count);
    if (!tiled) return encode_tile(rows);
    return by_tiles(rows, {t.sample, t.step_sample, t.blend_latent, t.latent - t.blend_latent},
                    [&](const at::Tensor& tile) { return encode_tile(tile); });
  });
  const std::int64_t z = config_.latent_channels;
  return {moments.narrow(1, 0, z).contiguous(), at::clamp(moments.narrow(1, z, z), -30, 20).contiguous()};
}

at::Tensor AutoencoderKl::decode(const at::Tensor& latents, const Tiling& tiling) const {
  want_channels(latents, config_.latent_channels, "latents");
  const TileSizes t = tile_sizes(tiling, config_.sample_size, downscale());
  const bool tiled = tiling.enabled && (latents.size(2) > t.latent || latents.size(3) > t.latent);
  return nn::by_rows(latents.size(0), together(latents),
                     [&](std::int64_t begin, std::int64_t count) {
                       const auto rows = latents.narrow(0, begin, count);
                       if (!tiled) return decode_tile(rows);
                       return by_tiles(rows, {t.latent, t.step_latent, t.blend_sample, t.sample - t.blend_sample},
                                       [&](const at::Tensor& tile) { return decode_tile(tile); });
                     })
      .contiguous();
}

at::Tensor AutoencoderKl::scale(const at::Tensor& z) const {
  if (config_.latents_mean.empty()) return (z - config_.shift_factor) * config_.scaling_factor;
  return (z - per_channel(config_.latents_mean, z)) * config_.scaling_factor / per_channel(config_.latents_std, z);
}

at::Tensor AutoencoderKl::unscale(const at::Tensor& z) const {
  if (config_.latents_mean.empty()) return z / config_.scaling_factor + config_.shift_factor;
  return z * per_channel(config_.latents_std, z) / config_.scaling_factor + per_channel(config_.latents_mean, z);
}

Names::Names(const io::WeightSource& source) {
  for (const std::string part : {"encoder", "decoder"})
    legacy_ = legacy_ || source.has(part + ".mid_block.attentions.0.query.weight");
}

std::string Names::stored(const std::string& name) const {
  constexpr std::string_view place = ".mid_block.attentions.0.";
  const std::size_t at = name.find(place);
  if (!legacy_ || at == std::string::npos) return name;
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 4> older{
      {{"to_q.", "query."}, {"to_k.", "key."}, {"to_v.", "value."}, {"to_out.0.", "proj_attn."}}};
  const std::size_t start = at + place.size();
  for (const auto& [now, then] : older)
    if (name.compare(start, now.size(), now) == 0)
      return name.substr(0, start) + std::string(then) + name.substr(start + now.size());
  return name;
}

}  // namespace atelier::models::vae
