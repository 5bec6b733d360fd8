// Autoencoders against diffusers; goldens from scripts/fixtures/diffusion.py.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>

#include "models/seeded.h"
#include "models/vae/autoencoder.h"
#include "support/doctest_last.h"
#include "support/errors.h"

namespace {

using namespace atelier;
using models::vae::Autoencoder;
using models::vae::AutoencoderKl;
using test::difference;
using test::diffusion_golden;
using test::seeded;

std::shared_ptr<Autoencoder> tiny(const std::string& name, at::ScalarType dtype = at::kFloat) {
  auto model = models::vae::make_autoencoder(test::diffusion_config(name), "config.json");
  test::fill_seeded(*model, dtype);
  return model;
}

/// A checkpoint that holds what a list names and nothing else.
class NamedSource : public io::WeightSource {
 public:
  explicit NamedSource(std::vector<std::string> names) : names_(std::move(names)) {}
  bool has(const std::string& name) const override {
    return std::find(names_.begin(), names_.end(), name) != names_.end();
  }
  const io::TensorInfo& info(const std::string&) const override { throw std::logic_error("info"); }
  std::vector<std::string> names() const override { return names_; }
  const std::vector<io::WeightFile>& files() const override { throw std::logic_error("files"); }
  at::Tensor load(const std::string&, c10::ScalarType, c10::Device) override { throw std::logic_error("load"); }
  void note_missing(const std::string&) override {}
  void note_used(const std::string&) override {}
  std::vector<std::string> missing() const override { return {}; }
  std::vector<std::string> unused() const override { return {}; }

 private:
  std::vector<std::string> names_;
};

}  // namespace

TEST_CASE("AutoencoderKL encodes and decodes as diffusers, within 1e-4") {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"sd", "flux", "three"}) {
    CAPTURE(name);
    const auto model = tiny("vae." + name);
    CHECK(model->downscale() == (name == "three" ? 4 : 2));
    const auto d = model->encode(seeded(name + ".pictures", {2, 3, 24, 32}));
    CHECK(difference(d.mean, diffusion_golden("vae." + name + ".mean")) < 1e-4);
    CHECK(difference(d.std(), diffusion_golden("vae." + name + ".std")) < 1e-4);
    const std::int64_t f = model->downscale();
    const auto y = model->decode(seeded(name + ".latents", {2, model->latent_channels(), 24 / f, 16 / f}, 2));
    CHECK(difference(y, diffusion_golden("vae." + name + ".decoded")) < 1e-4);
  }
}

TEST_CASE("tiles are cut and blended as in diffusers") {
  const at::NoGradGuard no_grad;
  const auto model = tiny("vae.three");
  const models::vae::Tiling tiling{.enabled = true};
  const auto d = model->encode(seeded("three.wide", {1, 3, 24, 44}), tiling);
  CHECK(difference(d.mean, diffusion_golden("vae.three.tiled.mean")) < 1e-4);
  CHECK(difference(d.std(), diffusion_golden("vae.three.tiled.std")) < 1e-4);
  const auto latents = seeded("three.wide.latents", {1, 4, 6, 11}, 2);
  const auto tiled = model->decode(latents, tiling);
  CHECK(difference(tiled, diffusion_golden("vae.three.tiled.decoded")) < 1e-4);
  CHECK(difference(tiled, model->decode(latents)) > 1e-2);
  // One tile covers all: nothing is cut.
  CHECK(at::equal(model->decode(latents, {.enabled = true, .sample_size = 64}), model->decode(latents)));
}

TEST_CASE("AutoencoderTiny encodes and decodes as diffusers, within 1e-4") {
  const at::NoGradGuard no_grad;
  const auto model = tiny("taesd");
  const auto d = model->encode(seeded("taesd.pictures", {2, 3, 16, 24}));
  CHECK(difference(d.mean, diffusion_golden("taesd.encoded")) < 1e-4);
  CHECK_FALSE(d.logvar.defined());
  CHECK(d.std().abs().max().item<double>() == 0);
  CHECK(difference(model->decode(seeded("taesd.latents", {2, 4, 4, 5}, 4)), diffusion_golden("taesd.decoded")) < 1e-4);
}

TEST_CASE("a picture's bits are the same alone and in a batch") {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"vae.sd", "taesd"})
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      CAPTURE(name);
      const auto model = tiny(name, dtype);
      const auto pictures = seeded("batch", {3, 3, 24, 32}).to(dtype);
      const auto latents = seeded("latents", {3, 4, 6, 5}, 2).to(dtype);
      const auto encoded = model->encode(pictures).mean, decoded = model->decode(latents);
      for (std::int64_t i = 0; i < 3; ++i) {
        CHECK(at::equal(encoded.narrow(0, i, 1), model->encode(pictures.narrow(0, i, 1)).mean));
        CHECK(at::equal(decoded.narrow(0, i, 1), model->decode(latents.narrow(0, i, 1))));
      }
    }
}

TEST_CASE("scale and unscale undo each other") {
  const at::NoGradGuard no_grad;
  auto json = test::diffusion_config("vae.flux");
  const auto z = seeded("z", {1, 6, 2, 2});
  const auto shifted = models::vae::make_autoencoder(json, "config.json");
  CHECK(difference(shifted->scale(z), (z - 0.1) * 0.36) < 1e-6);
  CHECK(difference(shifted->unscale(shifted->scale(z)), z) < 1e-6);
  json["latents_mean"] = {1, 2, 3, 4, 5, 6};
  json["latents_std"] = {1, 2, 1, 2, 1, 4};
  const auto whitened = models::vae::make_autoencoder(json, "config.json");
  CHECK(difference(whitened->scale(z).select(1, 5), (z.select(1, 5) - 6) * 0.36 / 4) < 1e-6);
  CHECK(difference(whitened->unscale(whitened->scale(z)), z) < 1e-5);
}

TEST_CASE("attention of older autoencoders is found under its older names") {
  const std::string place = "decoder.mid_block.attentions.0.";
  const models::vae::Names older(NamedSource({place + "query.weight"})), newer(NamedSource({place + "to_q.weight"}));
  CHECK(older.stored(place + "to_q.weight") == place + "query.weight");
  CHECK(older.stored(place + "to_k.bias") == place + "key.bias");
  CHECK(older.stored(place + "to_v.bias") == place + "value.bias");
  CHECK(older.stored(place + "to_out.0.bias") == place + "proj_attn.bias");
  CHECK(older.stored(place + "group_norm.bias") == place + "group_norm.bias");
  CHECK(older.stored("encoder.conv_in.weight") == "encoder.conv_in.weight");
  CHECK(newer.stored(place + "to_q.weight") == place + "to_q.weight");
}

TEST_CASE("autoencoder configurations: hostile numbers and unknown kinds are errors that name the key") {
  const auto with = [](const std::string& base, const std::string& key, const base::Json& value) {
    auto json = test::diffusion_config(base);
    json[key] = value;
    return test::error_of(base::ExitCode::data, [&] { models::vae::make_autoencoder(json, "config.json"); });
  };
  for (const std::string key :
       {"in_channels", "out_channels", "latent_channels", "block_out_channels", "layers_per_block", "norm_num_groups",
        "sample_size", "scaling_factor", "down_block_types", "latents_mean"})
    for (const base::Json& value : {base::Json(-1), base::Json(std::int64_t{1} << 40), base::Json("many")}) {
      CAPTURE(key);
      CHECK(test::contains(with("vae.sd", key, value), key));
    }
  for (const std::string key :
       {"latent_channels", "encoder_block_out_channels", "num_decoder_blocks", "upsampling_scaling_factor"})
    CHECK(test::contains(with("taesd", key, -1), key));
  CHECK(test::contains(with("taesd", "num_encoder_blocks", {1, 2}), "num_encoder_blocks"));
  CHECK(test::contains(with("taesd", "upsample_fn", "bilinear"), "upsample_fn"));
  CHECK(test::contains(with("vae.sd", "_class_name", "AutoencoderDC"), "AutoencoderDC"));
  CHECK(test::contains(with("vae.sd", "up_block_types", {"UpDecoderBlock2D", "AttnUpDecoderBlock2D"}),
                       "AttnUpDecoderBlock2D"));
}
