// ControlNets against diffusers; goldens from scripts/fixtures/control.py.
#include <algorithm>
#include <functional>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>

#include "base/sha256.h"
#include "models/controlnet/controlnet.h"
#include "models/controlnet/file.h"
#include "models/seeded.h"
#include "models/tensor_source.h"
#include "models/unet/unet.h"
#include "support/doctest_last.h"
#include "support/errors.h"

namespace {

using namespace atelier;
using base::Json;
using models::controlnet::Config;
using models::controlnet::ControlNet;
using models::controlnet::parse_config;
using test::contains;
using test::difference;
using test::seeded;

Json configs() {
  static const Json all = base::read_json_file(std::string(ATELIER_TEST_DATA) + "/control/configs.json");
  return all;
}

at::Tensor golden(const std::string& name) {
  static const auto source = io::WeightSource::open(std::string(ATELIER_TEST_DATA) + "/control/goldens.safetensors");
  return source->load(name, at::kFloat, at::kCPU);
}

ControlNet tiny(const std::string& name, at::ScalarType dtype = at::kFloat) {
  ControlNet net(parse_config(configs()["tiny"][name], "config.json"));
  for (auto& entry : net.named_parameters())
    entry.value().set_data(test::seeded_weight(name + "." + entry.key(), entry.value().sizes()).to(dtype));
  return net;
}

models::unet::Input input(const std::string& name, const Config& config) {
  models::unet::Input in;
  in.sample = seeded(name + ".sample", {2, 4, 6, 4}, 2);
  in.timestep = at::tensor({981.0, 14.5}, at::kFloat);
  in.context = seeded(name + ".context", {2, 7, config.encoder.context_size()}, 2);
  if (config.encoder.has_addition()) {
    in.time_ids = at::tensor({512., 384., 0., 16., 512., 6., 96., 1024., 8., 0., 768., 2.5}, at::kFloat).view({2, 6});
    in.text_embeds = seeded(name + ".pooled", {2, 20});
  }
  return in;
}

at::Tensor picture(const std::string& name) { return seeded(name + ".picture", {1, 3, 48, 32}, 0.5, 0.5); }

/// diffusers' configuration of a ControlNet at full size.
Config published(const std::string& name) { return parse_config(configs()["original"][name]["config"], name); }

/// Every parameter's place without memory behind it.
std::shared_ptr<test::TensorSource> shapes(const ControlNet& net,
                                           const std::function<std::string(const std::string&)>& name) {
  auto source = std::make_shared<test::TensorSource>();
  for (const auto& entry : net.named_parameters()) source->tensors[name(entry.key())] = entry.value();
  return source;
}

void check_same_shapes(const ControlNet& a, const ControlNet& b) {
  const auto left = a.named_parameters(), right = b.named_parameters();
  REQUIRE(left.size() == right.size());
  for (std::size_t i = 0; i < left.size(); ++i) {
    CHECK(left[i].key() == right[i].key());
    CHECK(left[i].value().sizes() == right[i].value().sizes());
  }
}

void check_same_attention(const Config& a, const Config& b) {
  for (std::size_t i = 0; i < a.encoder.levels.size(); ++i) {
    if (!a.encoder.levels[i].down_attention) continue;
    CHECK(a.encoder.levels[i].heads == b.encoder.levels[i].heads);
    CHECK(a.encoder.levels[i].depth == b.encoder.levels[i].depth);
  }
}

}  // namespace

TEST_CASE("every kind of ControlNet gives the residuals that diffusers' does, within 1e-4") {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"sd15", "other", "sdxl", "pooled", "small"}) {
    CAPTURE(name);
    const auto net = tiny(name);
    const auto result = net.forward(input(name, net.config()), net.embed(picture(name)), 0.7);
    double worst = difference(result.mid, golden(name + ".mid"));
    CHECK(result.down.size() == 4);
    for (std::size_t i = 0; i < result.down.size(); ++i)
      worst = std::max(worst, difference(result.down[i], golden(name + ".down." + std::to_string(i))));
    CHECK(worst < 1e-4);
    MESSAGE(name << ": largest difference " << worst);
  }
}

TEST_CASE("the UNet with them predicts what diffusers' does") {
  const at::NoGradGuard no_grad;
  const Json folders = base::read_json_file(std::string(ATELIER_TEST_DATA) + "/image_pipelines/configs.json");
  for (const std::string name : {"sd15", "sdxl"}) {
    CAPTURE(name);
    const auto net = tiny(name);
    models::unet::UNet unet(models::unet::parse_config(folders[name]["unet/config.json"], "config.json"));
    test::fill_seeded(unet);
    auto in = input(name, net.config());
    auto residuals = net.forward(in, net.embed(picture(name)), 0.7);
    const auto without = unet.forward(in);
    in.down_residuals = residuals.down;
    in.mid_residual = residuals.mid;
    CHECK(difference(unet.forward(in), golden(name + ".unet")) < 1e-4);
    CHECK(difference(without, golden(name + ".unet")) > 0.1);
  }
}

TEST_CASE("residuals of a row computed in a run of its own have the bits that they have alone") {
  const at::NoGradGuard no_grad;
  const auto net = tiny("sdxl");
  const auto embedding = net.embed(picture("sdxl"));
  const auto alone = input("sdxl", net.config());
  auto four = alone;
  for (auto* t : {&four.sample, &four.timestep, &four.context, &four.text_embeds, &four.time_ids})
    *t = at::cat({*t, *t}, 0);
  four.rows_together = 2;
  const auto one = net.forward(alone, embedding), both = net.forward(four, embedding);
  for (std::size_t i = 0; i < one.down.size(); ++i) CHECK(at::equal(both.down[i].narrow(0, 2, 2), one.down[i]));
  CHECK(at::equal(both.mid.narrow(0, 0, 2), one.mid));
}

TEST_CASE("a picture whose size is not that of the latents is refused") {
  const at::NoGradGuard no_grad;
  const auto net = tiny("sd15");
  const auto message = test::error_of(base::ExitCode::data, [&] {
    net.forward(input("sd15", net.config()), net.embed(seeded("wide", {1, 3, 48, 64})));
  });
  CHECK(contains(message, "8x6"));
  CHECK(contains(message, "4x6"));
}

TEST_CASE("configurations of ControlNets: what is unknown or not supported is an error that names the key") {
  const auto with = [](const std::string& key, const Json& value) {
    Json json = configs()["tiny"]["sdxl"];
    json[key] = value;
    return test::error_of(base::ExitCode::data, [&] { parse_config(json, "config.json"); });
  };
  CHECK(contains(with("controlnet_conditioning_channel_order", "hsv"), "channel_order\" is \"hsv\""));
  CHECK(contains(with("conditioning_channels", 1), "\"conditioning_channels\" is 1"));
  CHECK(contains(with("mid_block_type", "UNetMidBlock3D"), "UNetMidBlock3D"));
  CHECK(contains(with("_class_name", "ControlNetUnionModel"), "ControlNetUnionModel"));
  CHECK(contains(with("class_embed_type", "timestep"), "class_embed_type"));
  CHECK(contains(with("center_input_sample", true), "center_input_sample"));
  for (const std::string key : {"conditioning_embedding_out_channels", "block_out_channels", "in_channels",
                                "global_pool_conditions", "cross_attention_dim", "down_block_types"})
    for (const Json& value : {Json(-1), Json(std::int64_t{1} << 40), Json("many"), Json::object()}) {
      CAPTURE(key);
      CHECK(contains(with(key, value), key));
    }
  const auto sd15 = parse_config(configs()["tiny"]["sd15"], "a"), sdxl = parse_config(configs()["tiny"]["sdxl"], "b");
  CHECK(mismatch(sd15, sd15.encoder).empty());
  CHECK(contains(mismatch(sd15, sdxl.encoder), "size 24, the UNet of 48"));
}

TEST_CASE("the original layout's names are those that diffusers' converter reads, alone and inside a checkpoint") {
  for (const std::string name : {"sd1", "sd2"}) {
    CAPTURE(name);
    const Config config = published(name);
    const ControlNet net(config);
    std::vector<std::string> lines;
    for (const auto& entry : net.named_parameters())
      lines.push_back(entry.key() + " " + original_stored(config, entry.key()).name + "\n");
    std::sort(lines.begin(), lines.end());
    std::string text;
    for (const auto& line : lines) text += line;
    const Json table = configs()["original"][name];
    CHECK(lines.size() == table["count"].get<std::size_t>());
    CHECK(base::sha256_hex(text) == table["sha256"].get<std::string>());
    for (const std::string prefix : {"", "control_model."}) {
      const auto source =
          shapes(net, [&](const std::string& key) { return prefix + original_stored(config, key).name; });
      const auto file = models::controlnet::open_file(source);
      const Config read = parse_config(file.config, name);
      check_same_shapes(net, ControlNet(read));
      check_same_attention(config, read);
      CHECK(file.weights->names().size() == lines.size());
    }
    // diffusers' layout without its configuration.
    const auto file = models::controlnet::open_file(shapes(net, [](const std::string& key) { return key; }));
    const Config read = parse_config(file.config, name);
    check_same_shapes(net, ControlNet(read));
    check_same_attention(config, read);
  }
}

TEST_CASE("SDXL's ControlNets without their configuration: the whole one, and the small one that does not attend") {
  Json whole = configs()["original"]["sd2"]["config"];
  whole.update({{"block_out_channels", {320, 640, 1280}},
                {"down_block_types", {"DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"}},
                {"attention_head_dim", {5, 10, 20}},
                {"transformer_layers_per_block", {1, 2, 10}},
                {"cross_attention_dim", 2048},
                {"addition_embed_type", "text_time"},
                {"addition_time_embed_dim", 256},
                {"projection_class_embeddings_input_dim", 2816}});
  Json small = whole;
  small["down_block_types"] = Json(std::vector<std::string>(3, "DownBlock2D"));
  small["mid_block_type"] = "UNetMidBlock2D";
  for (const Json& json : {whole, small}) {
    const Config config = parse_config(json, "sdxl");
    const ControlNet net(config);
    const auto file = models::controlnet::open_file(shapes(net, [](const std::string& key) { return key; }));
    const Config read = parse_config(file.config, "file");
    check_same_shapes(net, ControlNet(read));
    check_same_attention(config, read);
    CHECK(mismatch(read, config.encoder).empty());
  }
}

TEST_CASE("files of other kinds are named") {
  const auto message = [](const std::string& tensor) {
    auto source = std::make_shared<test::TensorSource>();
    source->tensors[tensor] = at::ones({1});
    return test::error_of(base::ExitCode::data, [&] { models::controlnet::open_file(source); });
  };
  CHECK(contains(message("lora_controlnet"), "Control-LoRA"));
  CHECK(contains(message("task_embedding"), "union"));
  CHECK(contains(message("difference"), "difference to a model"));
  CHECK(contains(message("adapter.body.0.resnets.0.block1.weight"), "T2I"));
  CHECK(contains(message("model.diffusion_model.input_blocks.0.0.weight"), "not a ControlNet"));
}
