#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "nn/conv.h"

namespace atelier::models::vae {

/// A diagonal normal distribution of latents. A caller draws `mean + std() * noise`, or takes the mean.
struct Distribution {
  at::Tensor mean;    ///< (B, latent_channels, h, w)
  at::Tensor logvar;  ///< the same shape, clamped to [-30, 20]; undefined where the encoder is deterministic (TAESD)

  at::Tensor std() const;  ///< exp(logvar / 2); zeros where deterministic
};

/// Work on tiles instead of the whole picture, as diffusers' tiling: overlapping squares blended linearly. Memory stays
/// bounded; results differ from untiled ones, since a tile does not see beyond its border.
struct Tiling {
  bool enabled = false;
  std::int64_t sample_size = 0;  ///< side of a tile in pixels; 0: what the configuration says
  double overlap = 0.25;         ///< of a tile's side
};

/// What the pipelines know of an autoencoder.
class Autoencoder : public nn::Module {
 public:
  /// Pictures (B, 3, H, W) in [-1, 1], H and W multiples of downscale(), to unscaled latents (B, latent_channels,
  /// H / downscale(), ...). On the CPU each picture's bits are the same alone and in a batch.
  virtual Distribution encode(const at::Tensor& pictures, const Tiling& tiling = {}) const = 0;
  /// Unscaled latents (B, latent_channels, h, w) to pictures (B, 3, h * downscale(), ...), about [-1, 1], not clamped. Bits as
  /// with encode().
  virtual at::Tensor decode(const at::Tensor& latents, const Tiling& tiling = {}) const = 0;

  virtual std::int64_t latent_channels() const = 0;
  virtual std::int64_t downscale() const = 0;  ///< pixels per latent, along each side
  virtual bool force_upcast() const = 0;       ///< overflows in fp16: run in f32 (SDXL)
  virtual at::ScalarType dtype() const = 0;
  virtual at::Device device() const = 0;

  /// What the encoder gives to what the UNet works on, and back: (z - shift) * scaling, or with latents_mean and latents_std
  /// (z - mean) * scaling / std.
  virtual at::Tensor scale(const at::Tensor& latents) const = 0;
  virtual at::Tensor unscale(const at::Tensor& latents) const = 0;
};

/// AutoencoderKL's configuration.
struct Config {
  std::int64_t in_channels = 3, out_channels = 3, latent_channels = 4;
  std::vector<std::int64_t> channels{64};  ///< block_out_channels
  std::int64_t layers_per_block = 1;
  nn::Activation activation = nn::Activation::silu;
  std::int64_t norm_groups = 32;
  std::int64_t sample_size = 32;  ///< pixels; the default side of a tile
  double scaling_factor = 0.18215, shift_factor = 0;
  std::vector<double> latents_mean, latents_std;  ///< one for each latent channel, or empty
  bool force_upcast = true;
  bool quant_conv = true, post_quant_conv = true;
  bool mid_attention = true;
};

/// Reads config.json of diffusers' AutoencoderKL; as unet::parse_config in its checks.
Config parse_config(const base::Json& json, const std::string& what);

class Encoder;
class Decoder;

/// AutoencoderKL of Stable Diffusion 1.x, 2.x, SDXL and later; names as in diffusers.
/// Reference: Latent Diffusion (arXiv:2112.10752).
class AutoencoderKl : public Autoencoder {
 public:
  explicit AutoencoderKl(const Config& config);

  Distribution encode(const at::Tensor& pictures, const Tiling& tiling = {}) const override;
  at::Tensor decode(const at::Tensor& latents, const Tiling& tiling = {}) const override;
  std::int64_t latent_channels() const override { return config_.latent_channels; }
  std::int64_t downscale() const override { return std::int64_t{1} << (config_.channels.size() - 1); }
  bool force_upcast() const override { return config_.force_upcast; }
  at::ScalarType dtype() const override;
  at::Device device() const override;
  at::Tensor scale(const at::Tensor& latents) const override;
  at::Tensor unscale(const at::Tensor& latents) const override;

  const Config& config() const { return config_; }

 private:
  at::Tensor encode_tile(const at::Tensor& pictures) const;
  at::Tensor decode_tile(const at::Tensor& latents) const;

  Config config_;
  std::shared_ptr<Encoder> encoder_;
  std::shared_ptr<Decoder> decoder_;
  std::shared_ptr<nn::Conv2d> quant_conv_, post_quant_conv_;
};

/// AutoencoderTiny's configuration (TAESD and its kin).
struct TinyConfig {
  std::int64_t in_channels = 3, out_channels = 3, latent_channels = 4;
  std::vector<std::int64_t> encoder_channels{64, 64, 64, 64}, decoder_channels{64, 64, 64, 64};
  std::vector<std::int64_t> encoder_blocks{1, 3, 3, 3}, decoder_blocks{3, 3, 3, 1};
  nn::Activation activation = nn::Activation::relu;
  std::int64_t upsampling_factor = 2;
  double scaling_factor = 1, shift_factor = 0;
};

/// Reads config.json of diffusers' AutoencoderTiny.
TinyConfig parse_tiny_config(const base::Json& json, const std::string& what);

class TinyCoder;

/// AutoencoderTiny: latents to pictures in a few milliseconds, for previews. Takes and gives latents as the UNet has them
/// (scaling_factor is 1). Tiling is not needed and ignored. Names as in diffusers.
/// Reference: https://github.com/madebyollin/taesd
class AutoencoderTiny : public Autoencoder {
 public:
  explicit AutoencoderTiny(const TinyConfig& config);

  Distribution encode(const at::Tensor& pictures, const Tiling& tiling = {}) const override;
  at::Tensor decode(const at::Tensor& latents, const Tiling& tiling = {}) const override;
  std::int64_t latent_channels() const override { return config_.latent_channels; }
  std::int64_t downscale() const override { return std::int64_t{1} << (config_.encoder_channels.size() - 1); }
  bool force_upcast() const override { return false; }
  at::ScalarType dtype() const override;
  at::Device device() const override;
  at::Tensor scale(const at::Tensor& latents) const override;
  at::Tensor unscale(const at::Tensor& latents) const override;

  const TinyConfig& config() const { return config_; }

 private:
  TinyConfig config_;
  std::shared_ptr<TinyCoder> encoder_, decoder_;
};

/// Builds the autoencoder that config.json names (`_class_name`: AutoencoderKL, AutoencoderTiny), without weights.
std::shared_ptr<Autoencoder> make_autoencoder(const base::Json& config, const std::string& what);

/// Names of the attention in an AutoencoderKL of before 2023: query, key, value, proj_attn.
class Names : public nn::NameMap {
 public:
  explicit Names(const io::WeightSource& source);
  std::string stored(const std::string& name) const override;

 private:
  bool legacy_ = false;
};

}  // namespace atelier::models::vae
