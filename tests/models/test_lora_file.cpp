// LoRA files as they are written: names, alphas, magnitudes, and that they are read back as what they were.
#include "models/adapters/lora_file.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <fmt/format.h>

#include "base/json.h"
#include "base/sha256.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "io/tensor_file.h"
#include "models/adapters/adapters.h"
#include "models/seeded.h"
#include "models/unet/unet.h"
#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/scratch.h"

namespace {

using namespace atelier;
using namespace atelier::models::adapters;
using models::unet::UNet;
using test::difference;
using test::seeded;

std::shared_ptr<UNet> tiny() {
  auto model = std::make_shared<UNet>(models::unet::parse_config(test::diffusion_config("unet.sdxl"), "config.json"));
  test::fill_seeded(*model);
  return model;
}

/// An adapter on every attention projection and first convolution.
std::vector<LoraModule> modules_of(const nn::Module& model, bool dora) {
  std::vector<LoraModule> modules;
  for (const auto& entry : model.named_parameters()) {
    const at::Tensor& w = entry.value();
    const bool conv = entry.key().ends_with(".conv1.weight");
    if (!conv && !entry.key().ends_with(".to_q.weight") && !entry.key().ends_with(".to_out.0.weight")) continue;
    const std::string path = entry.key().substr(0, entry.key().size() - 7);
    const std::int64_t rank = conv ? 2 : 3;
    auto down = w.sizes().vec();
    down[0] = rank;
    std::vector<std::int64_t> up(down.size(), 1);
    up[0] = w.size(0);
    up[1] = rank;
    modules.push_back(
        {"unet", path, seeded(path + ".down", down, 0.4), seeded(path + ".up", up, 0.4), {}, conv ? 1.0 : 2.5});
    if (dora) modules.back().magnitude = seeded(path + ".dora", {w.size(0)}, 0.4, 1.5);
  }
  return modules;
}

/// Weight + alpha / r up down, with DoRA's lengths.
at::Tensor expected(const at::Tensor& weight, const LoraModule& m) {
  const auto delta = m.up.flatten(1).matmul(m.down.flatten(1)) * (m.alpha / static_cast<double>(m.down.size(0)));
  auto sum = weight.flatten(1) + delta;
  if (m.magnitude.defined()) sum = sum * (m.magnitude / sum.square().sum(1).sqrt()).unsqueeze(1);
  return sum.view(weight.sizes());
}

std::map<std::string, std::string> metadata_of(const std::string& path) {
  return io::parse_safetensors(io::MappedFile::open(path)->bytes(), path).metadata;
}

}  // namespace

TEST_CASE("what is written is read back as what was trained, in both layouts, with convolutions and magnitudes") {
  const at::NoGradGuard no_grad;
  const test::Scratch scratch;
  for (const bool dora : {false, true})
    for (const LoraLayout layout : {LoraLayout::kohya, LoraLayout::peft})
      for (const bool original : {false, true}) {
        CAPTURE(dora);
        CAPTURE(original);
        const auto model = tiny();
        const auto modules = modules_of(*model, dora);
        REQUIRE(modules.size() > 8);
        const KohyaNames names{.xl = true, .unet = original ? &model->config() : nullptr};
        const std::string path = scratch.file("a.safetensors");
        write_lora(path, modules, layout, names, at::kFloat, {{"ss_note", "x"}});
        std::map<std::string, at::Tensor> wanted;
        for (const LoraModule& m : modules)
          wanted[m.path] = expected(*model->named_parameters().find(m.path + ".weight"), m);
        Merger merger({{"unet", model, &model->config()}});
        const auto report = merger.apply({{.file = io::WeightSource::open(path), .metadata = metadata_of(path)}}).at(0);
        CHECK(report.unmatched.empty());
        CHECK(report.modules == modules.size());
        for (const auto& [name, weight] : wanted)
          CHECK(difference(*model->named_parameters().find(name + ".weight"), weight) < 1e-5);
      }
}

TEST_CASE("names as kohya's scripts and diffusers have them") {
  const auto model = tiny();
  const std::string path = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";
  CHECK(kohya_module("unet", path, {}) == "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q");
  CHECK(kohya_module("unet", path, {true, &model->config()}) ==
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q");
  const std::string layer = "text_model.encoder.layers.0.self_attn.q_proj";
  CHECK(kohya_module("text_encoder", layer, {}) == "lora_te_text_model_encoder_layers_0_self_attn_q_proj");
  CHECK(kohya_module("text_encoder", layer, {.xl = true}) == "lora_te1_text_model_encoder_layers_0_self_attn_q_proj");
  CHECK(kohya_module("text_encoder_2", layer, {.xl = true}) == "lora_te2_text_model_encoder_layers_0_self_attn_q_proj");

  const LoraModule conv{
      "unet", "mid_block.resnets.0.conv1", seeded("d", {2, 4, 3, 3}), seeded("u", {6, 2, 1, 1}), seeded("m", {6}), 4};
  const auto kohya = lora_tensors({conv}, LoraLayout::kohya, {}, at::kHalf);
  const std::string start = "lora_unet_mid_block_resnets_0_conv1";
  CHECK(kohya.size() == 4);
  CHECK(kohya.at(start + ".alpha").item<double>() == 4);
  CHECK(kohya.at(start + ".dora_scale").sizes().vec() == std::vector<std::int64_t>{6, 1, 1, 1});
  CHECK((kohya.at(start + ".lora_up.weight").scalar_type() == at::kHalf));
  const auto peft = lora_tensors({conv}, LoraLayout::peft, {}, at::kFloat);
  CHECK(peft.size() == 3);
  CHECK(peft.at("unet.mid_block.resnets.0.conv1.lora_magnitude_vector").sizes().vec() ==
        std::vector<std::int64_t>{1, 6, 1, 1});
  CHECK(at::equal(peft.at("unet.mid_block.resnets.0.conv1.lora_B.weight"), conv.up * 2));  // alpha / rank is in it
}

TEST_CASE("metadata: the hash of the tensors, or peft's configuration of each part") {
  const test::Scratch scratch;
  const std::string path = scratch.file("a.safetensors");
  const LoraModule a{"unet", "x.to_q", seeded("a", {3, 4}), seeded("b", {5, 3}), {}, 1};
  const LoraModule b{"unet", "y.conv1", seeded("c", {2, 4, 3, 3}), seeded("d", {5, 2, 1, 1}), {}, 1};
  const LoraModule c{"unet", "z.to_q", seeded("e", {3, 4}), seeded("f", {5, 3}), {}, 3};
  const LoraModule d{"text_encoder", "text_model.encoder.layers.0.self_attn.q_proj", seeded("g", {4, 4}), seeded("h", {5, 4}), {}, 4};
  write_lora(path, {a, b}, LoraLayout::kohya, {}, at::kFloat, {{"ss_network_dim", "3"}});
  auto metadata = metadata_of(path);
  CHECK(metadata["ss_network_dim"] == "3");
  const std::string bytes = test::get_file(path);
  std::uint64_t header = 0;
  for (int i = 7; i >= 0; --i) header = header << 8 | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  CHECK(metadata["sshs_model_hash"] == base::sha256_hex(std::string_view(bytes).substr(8 + header)));

  write_lora(path, {a, b, c, d}, LoraLayout::peft, {}, at::kFloat, {});
  const base::Json config = base::parse_json(metadata_of(path)["lora_adapter_metadata"], "metadata");
  CHECK(config["unet.r"] == 3);
  CHECK(config["unet.lora_alpha"] == 3);
  CHECK(config["unet.rank_pattern"].dump() == R"({"y.conv1":2})");
  CHECK(config["unet.alpha_pattern"].dump() == R"({"y.conv1":2})");
  CHECK(config["unet.target_modules"].size() == 3);
  CHECK(config["unet.use_dora"] == false);
  CHECK(config["text_encoder.r"] == 4);
  CHECK(config["text_encoder.target_modules"].dump() == R"(["encoder.layers.0.self_attn.q_proj"])");
  const std::string first = test::get_file(path);
  write_lora(path, {a, b, c, d}, LoraLayout::peft, {}, at::kFloat, {});
  CHECK(test::get_file(path) == first);
}
