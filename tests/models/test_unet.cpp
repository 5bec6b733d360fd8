// The UNet against diffusers; goldens from scripts/fixtures/diffusion.py.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>

#include "models/seeded.h"
#include "models/unet/unet.h"
#include "support/doctest_last.h"
#include "support/errors.h"

namespace {

using namespace atelier;
using models::unet::UNet;
using test::difference;
using test::seeded;

UNet tiny(const std::string& name, at::ScalarType dtype = at::kFloat) {
  UNet model(models::unet::parse_config(test::diffusion_config("unet." + name), "config.json"));
  test::fill_seeded(model, dtype);
  return model;
}

models::unet::Input input(const std::string& name, const UNet& model, std::int64_t height, std::int64_t width,
                          std::int64_t batch = 2) {
  const auto& c = model.config();
  models::unet::Input in;
  in.sample = seeded(name + ".sample", {batch, c.in_channels, height, width}, 2);
  in.timestep = at::tensor({981.0, 14.5}, at::kFloat).narrow(0, 0, batch);
  in.context = seeded(name + ".context", {batch, 7, c.context_size()}, 2);
  if (c.has_addition()) {
    const auto ids =
        at::tensor({512., 384., 0., 16., 512., 6., 96., 1024., 8., 0., 768., 2.5}, at::kFloat).view({2, 6});
    in.time_ids = ids.narrow(0, 0, batch).narrow(1, 0, name == "refiner" ? 5 : 6);
    in.text_embeds = seeded(name + ".pooled", {batch, 20});
  }
  if (c.time_cond_proj > 0) in.guidance = seeded(name + ".guidance", {batch, c.time_cond_proj});
  return in;
}

const char* const all[] = {"sd15", "sd2", "inpaint", "lcm", "sdxl", "refiner"};

}  // namespace

TEST_CASE("every kind of UNet predicts what diffusers does, within 1e-4") {
  const at::NoGradGuard no_grad;
  for (const std::string name : all) {
    CAPTURE(name);
    const auto model = tiny(name);
    const double d = difference(model.forward(input(name, model, 16, 12)), test::diffusion_golden("unet." + name));
    CHECK(d < 1e-4);
    MESSAGE(name << ": largest difference " << d);
  }
}

TEST_CASE("latents of an odd size go through") {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"sd15", "refiner"}) {
    CAPTURE(name);
    const auto model = tiny(name);
    CHECK(difference(model.forward(input(name, model, 9, 11, 1)), test::diffusion_golden("unet." + name + ".odd")) <
          1e-4);
  }
}

TEST_CASE("residuals of a ControlNet are added to skips and middle") {
  const at::NoGradGuard no_grad;
  const auto model = tiny("sd15");
  auto in = input("sd15", model, 16, 12);
  in.down_residuals = {seeded("residual0", {2, 32, 16, 12}), seeded("residual1", {2, 32, 16, 12}),
                       seeded("residual2", {2, 32, 8, 6}), seeded("residual3", {2, 64, 8, 6})};
  in.mid_residual = seeded("residual.mid", {2, 64, 8, 6});
  CHECK(difference(model.forward(in), test::diffusion_golden("unet.sd15.control")) < 1e-4);
  in.down_residuals.pop_back();
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { model.forward(in); }), "4 skips"));
}

TEST_CASE("a row computed in a run of its own has the bits that it has alone, whatever the batch") {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"sd15", "sdxl"})
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      CAPTURE(name);
      const auto model = tiny(name, dtype);
      auto pair = input(name, model, 16, 12);
      for (auto* t : {&pair.sample, &pair.context, &pair.text_embeds})
        if (t->defined()) *t = t->to(dtype);
      auto six = pair;
      for (auto* t : {&six.sample, &six.timestep, &six.context, &six.text_embeds, &six.time_ids})
        if (t->defined()) *t = at::cat({*t, t->flip(0) * 0.5, *t}, 0);
      six.rows_together = 2;
      const auto alone = model.forward(pair), batch = model.forward(six);
      CHECK(at::equal(batch.narrow(0, 0, 2), alone));
      CHECK(at::equal(batch.narrow(0, 4, 2), alone));
      CHECK_FALSE(at::equal(batch.narrow(0, 2, 2), alone));
    }
}

TEST_CASE("bf16 follows fp32") {
  const at::NoGradGuard no_grad;
  for (const std::string name : all) {
    CAPTURE(name);
    const auto model = tiny(name, at::kBFloat16);
    auto in = input(name, model, 16, 12);
    for (auto* t : {&in.sample, &in.context, &in.text_embeds, &in.guidance})
      if (t->defined()) *t = t->to(at::kBFloat16);
    const auto expected = test::diffusion_golden("unet." + name);
    const auto y = model.forward(in).to(at::kFloat);
    CHECK((y - expected).abs().mean().item<double>() < 0.05 * expected.abs().mean().item<double>());
  }
}

TEST_CASE("gradients reach the latents: no kernel overwrites what the way back needs") {
  const auto model = tiny("sdxl");
  auto in = input("sdxl", model, 8, 8, 1);
  in.sample.requires_grad_(true);
  model.forward(in).sum().backward();
  const auto gradient = in.sample.grad().clone();
  const at::NoGradGuard no_grad;
  // Against a central difference along one direction.
  const auto direction = seeded("direction", in.sample.sizes());
  const double h = 1e-2;
  auto up = in, down = in;
  up.sample = in.sample + h * direction;
  down.sample = in.sample - h * direction;
  const double slope =
      ((model.forward(up).to(at::kDouble).sum() - model.forward(down).to(at::kDouble).sum()) / (2 * h)).item<double>();
  CHECK((gradient * direction).to(at::kDouble).sum().item<double>() == doctest::Approx(slope).epsilon(2e-2));
}

TEST_CASE("inputs that belong to another model are refused") {
  const at::NoGradGuard no_grad;
  const auto model = tiny("sdxl");
  const auto refused = [&](auto change) {
    auto in = input("sdxl", model, 8, 8);
    change(in);
    return test::error_of(base::ExitCode::data, [&] { model.forward(in); });
  };
  CHECK(test::contains(refused([](auto& in) {
                         in.sample = seeded("x", {2, 9, 8, 8});
                       }),
                       "4 channels, the latents have 9"));
  CHECK(test::contains(refused([](auto& in) {
                         in.context = seeded("x", {2, 7, 32});
                       }),
                       "size 24, the text encoder gives 32"));
  CHECK(test::contains(refused([](auto& in) { in.time_ids = at::Tensor(); }), "added embedding"));
  CHECK(test::contains(refused([](auto& in) { in.timestep = at::tensor({1., 2., 3.}); }), "timestep"));
}

TEST_CASE("configurations: hostile numbers and unsupported kinds are errors that name the key") {
  const auto with = [](const std::string& key, const base::Json& value) {
    auto json = test::diffusion_config("unet.sdxl");
    json[key] = value;
    return test::error_of(base::ExitCode::data, [&] { models::unet::parse_config(json, "config.json"); });
  };
  for (const std::string key :
       {"in_channels", "out_channels", "norm_num_groups", "cross_attention_dim", "layers_per_block",
        "attention_head_dim", "transformer_layers_per_block", "block_out_channels", "sample_size", "conv_in_kernel",
        "time_embedding_dim", "addition_time_embed_dim", "projection_class_embeddings_input_dim", "norm_eps", "act_fn",
        "down_block_types"})
    for (const base::Json& value :
         {base::Json(-1), base::Json(std::int64_t{1} << 40), base::Json("many"), base::Json::object()}) {
      CAPTURE(key);
      CHECK(test::contains(with(key, value), key == "act_fn" && value == "many" ? "activation" : key));
    }
  CHECK(test::contains(with("attention_head_dim", {2, 4}), "attention_head_dim"));
  CHECK(test::contains(with("attention_head_dim", {2, 4, 5}), "no multiple of its 5 heads"));
  CHECK(test::contains(with("norm_num_groups", 7), "norm_num_groups"));
  CHECK(test::contains(with("class_embed_type", "timestep"), "class_embed_type"));
  CHECK(test::contains(with("resnet_time_scale_shift", "scale_shift"), "resnet_time_scale_shift"));
  CHECK(test::contains(with("mid_block_type", "UNetMidBlock2D"), "mid_block_type"));
  CHECK(test::contains(with("addition_embed_type", "image"), "addition_embed_type"));
  CHECK(test::contains(with("num_attention_heads", 8), "num_attention_heads"));
  CHECK(test::contains(with("a_new_key", 3), "a_new_key"));
  CHECK(test::contains(with("norm_num_groups", nullptr), "norm_num_groups"));
  auto huge = test::diffusion_config("unet.sdxl");
  huge["layers_per_block"] = 16;
  huge["transformer_layers_per_block"] = 64;
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { models::unet::parse_config(huge, "config.json"); }),
                       "transformer blocks"));
  CHECK(with("a_new_key", false) == "(no error)");
  CHECK(with("_diffusers_version", "0.99") == "(no error)");
}
