// Adapters against peft; goldens from scripts/fixtures/adapters.py.
#include <algorithm>
#include <functional>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>

#include "models/adapters/adapters.h"
#include "models/adapters/delta.h"
#include "models/clip/text_encoder.h"
#include "models/seeded.h"
#include "models/single_file/layout.h"
#include "models/tensor_source.h"
#include "models/unet/unet.h"
#include "support/doctest_last.h"
#include "support/errors.h"

namespace {

using namespace atelier;
using models::adapters::Adapter;
using models::adapters::Merger;
using models::unet::UNet;
using test::difference;
using test::seeded;
using test::TensorSource;

std::shared_ptr<UNet> tiny() {
  auto model = std::make_shared<UNet>(models::unet::parse_config(test::diffusion_config("unet.sdxl"), "config.json"));
  test::fill_seeded(*model);
  return model;
}

at::Tensor predict(const UNet& model) {
  models::unet::Input in;
  in.sample = seeded("sdxl.sample", {1, 4, 8, 8}, 2);
  in.timestep = at::tensor({981.0}, at::kFloat);
  in.context = seeded("sdxl.context", {1, 7, 24}, 2);
  in.time_ids = at::tensor({512., 384., 0., 16., 512., 6.}, at::kFloat).unsqueeze(0);
  in.text_embeds = seeded("sdxl.pooled", {1, 20});
  return model.forward(in);
}

at::Tensor golden(const std::string& name) {
  return io::WeightSource::open(std::string(ATELIER_TEST_DATA) + "/diffusion/adapters.safetensors")
      ->load(name, at::kFloat, at::kCPU);
}

bool ends_with_any(const std::string& path, std::initializer_list<const char*> endings) {
  for (const char* ending : endings)
    if (path.ends_with(ending)) return true;
  return false;
}

using Visit = std::function<void(const std::string& path, const at::Tensor& weight)>;

void each_attention(const nn::Module& model, const Visit& visit) {
  for (const auto& entry : model.named_parameters())
    if (ends_with_any(entry.key(), {".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_out.0.weight"}))
      visit(entry.key().substr(0, entry.key().size() - 7), entry.value());
}

void each_convolution(const nn::Module& model, std::initializer_list<const char*> endings, const Visit& visit) {
  for (const auto& entry : model.named_parameters())
    if (ends_with_any(entry.key(), endings)) visit(entry.key().substr(0, entry.key().size() - 7), entry.value());
}

std::string underscored(std::string text) {
  std::replace(text.begin(), text.end(), '.', '_');
  return text;
}

at::Tensor role(const std::string& path, const char* name, at::IntArrayRef shape) {
  return seeded(path + "." + name, shape, 0.4);
}

/// down and up of rank 3, named by `key`.
void add_lora(TensorSource& file, const std::string& path, const at::Tensor& weight, const std::string& down,
              const std::string& up) {
  auto down_shape = weight.sizes().vec();
  down_shape[0] = 3;
  std::vector<std::int64_t> up_shape(down_shape.size(), 1);
  up_shape[0] = weight.size(0);
  up_shape[1] = 3;
  file.tensors[down] = role(path, "down", down_shape);
  file.tensors[up] = role(path, "up", up_shape);
}

std::string kohya(const std::string& path) { return "lora_unet_" + underscored(path); }

const std::initializer_list<const char*> convolutions{"conv1.weight", "conv_shortcut.weight",
                                                      "downsamplers.0.conv.weight"};

}  // namespace

TEST_CASE("a LoRA in every format of the field gives what peft gives, and goes away again") {
  const at::NoGradGuard no_grad;
  const auto model = tiny();
  const auto before = predict(*model);
  Merger merger({{"unet", model, &model->config()}});
  const auto alpha = at::scalar_tensor(2.0, at::kHalf);
  std::map<std::string, std::shared_ptr<TensorSource>> files;
  for (const char* name : {"kohya", "original", "peft", "bare peft", "diffusers", "processor"})
    files[name] = std::make_shared<TensorSource>();
  each_attention(*model, [&](const std::string& path, const at::Tensor& weight) {
    add_lora(*files["kohya"], path, weight, kohya(path) + ".lora_down.weight", kohya(path) + ".lora_up.weight");
    files["kohya"]->tensors[kohya(path) + ".alpha"] = alpha;
    auto original = models::single_file::unet_stored(model->config(), path + ".weight").name;
    original = kohya(original.substr(0, original.size() - 7));
    add_lora(*files["original"], path, weight, original + ".lora_down.weight", original + ".lora_up.weight");
    files["original"]->tensors[original + ".alpha"] = alpha;
    add_lora(*files["peft"], path, weight, "unet." + path + ".lora_A.weight", "unet." + path + ".lora_B.weight");
    add_lora(*files["bare peft"], path, weight, "base_model.model." + path + ".lora_A.weight",
             "base_model.model." + path + ".lora_B.weight");
    add_lora(*files["diffusers"], path, weight, "unet." + path + ".lora.down.weight",
             "unet." + path + ".lora.up.weight");
    auto processor = path.ends_with(".to_out.0") ? path.substr(0, path.size() - 2) : path;
    processor = "unet." + processor.insert(processor.rfind('.'), ".processor") + "_lora";
    add_lora(*files["processor"], path, weight, processor + ".down.weight", processor + ".up.weight");
  });
  CHECK(files["original"]->has("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight"));
  CHECK(files["processor"]->has(
      "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight"));
  for (const auto& [name, file] : files) {
    CAPTURE(name);
    Adapter adapter{.file = file};
    // Formats without alpha mean 1; diffusers tells peft's beside the tensors.
    if (name == "peft") {
      adapter.metadata["lora_adapter_metadata"] = R"({"unet.lora_alpha": 2, "unet.r": 3})";
    } else if (!file->tensors.contains(file->names().front().substr(0, file->names().front().find('.')) + ".alpha")) {
      adapter.scale = 2.0 / 3;
    }
    const auto report = merger.apply({adapter}).at(0);
    CHECK(report.unmatched.empty());
    CHECK(report.matched == file->tensors.size());
    CHECK(report.modules * 2 == file->tensors.size() - (adapter.scale == 1 && name != "peft" ? report.modules : 0));
    CHECK(difference(predict(*model), golden("lora")) < 1e-4);
    merger.apply({});
    CHECK(at::equal(predict(*model), before));
  }
  CHECK(difference(before, golden("lora")) > 1e-2);
}

TEST_CASE("LoCon, DoRA, LoHa and LoKr give what peft gives") {
  const at::NoGradGuard no_grad;
  const auto model = tiny();
  Merger merger({{"unet", model, &model->config()}});
  const auto check = [&](const std::string& kind, const std::shared_ptr<TensorSource>& file) {
    CAPTURE(kind);
    CHECK(merger.apply({{.file = file}}).at(0).unmatched.empty());
    CHECK(difference(predict(*model), golden(kind)) < 1e-4);
  };
  auto locon = std::make_shared<TensorSource>(), dora = std::make_shared<TensorSource>();
  const Visit add_locon = [&](const std::string& path, const at::Tensor& weight) {
    add_lora(*locon, path, weight, kohya(path) + ".lora_down.weight", kohya(path) + ".lora_up.weight");
  };
  each_attention(*model, add_locon);
  each_convolution(*model, convolutions, add_locon);
  check("locon", locon);

  bool peft = false;  // both ways to name magnitudes
  const Visit add_dora = [&](const std::string& path, const at::Tensor& weight) {
    peft = !peft;
    const std::string key = peft ? "unet." + path : kohya(path);
    add_lora(*dora, path, weight, key + (peft ? ".lora_A.weight" : ".lora_down.weight"),
             key + (peft ? ".lora_B.weight" : ".lora_up.weight"));
    dora->tensors[key + ".alpha"] = at::scalar_tensor(6.0);
    const auto magnitude = seeded(path + ".dora", {weight.size(0)}, 0.4, 1.5);
    auto rows = std::vector<std::int64_t>(static_cast<std::size_t>(weight.dim()), 1);
    rows[peft && weight.dim() == 4 ? 1 : 0] = weight.size(0);
    dora->tensors[key + (peft ? ".lora_magnitude_vector" : ".dora_scale")] = magnitude.view(rows);
  };
  each_attention(*model, add_dora);
  each_convolution(*model, {"conv1.weight"}, add_dora);
  check("dora", dora);

  auto loha = std::make_shared<TensorSource>(), tucker = std::make_shared<TensorSource>();
  const auto add = [](TensorSource& file, const std::string& path, const char* name, at::IntArrayRef shape) {
    file.tensors[kohya(path) + "." + name] = role(path, name, shape);
  };
  const Visit add_loha = [&](const std::string& path, const at::Tensor& w) {
    for (const char* name : {"hada_w1_a", "hada_w2_a"}) add(*loha, path, name, {w.size(0), 3});
    for (const char* name : {"hada_w1_b", "hada_w2_b"}) add(*loha, path, name, {3, w.numel() / w.size(0)});
    loha->tensors[kohya(path) + ".alpha"] = at::scalar_tensor(4.0);
  };
  each_attention(*model, add_loha);
  each_convolution(*model, {"conv1.weight"}, add_loha);
  check("loha", loha);
  each_convolution(*model, {"conv1.weight"}, [&](const std::string& path, const at::Tensor& w) {
    for (const char* name : {"hada_w1_a", "hada_w2_a"}) add(*tucker, path, name, {3, w.size(0)});
    for (const char* name : {"hada_w1_b", "hada_w2_b"}) add(*tucker, path, name, {3, w.size(1)});
    for (const char* name : {"hada_t1", "hada_t2"}) add(*tucker, path, name, {3, 3, 3, 3});
    tucker->tensors[kohya(path) + ".alpha"] = at::scalar_tensor(4.0);
  });
  check("loha_tucker", tucker);

  auto lokr = std::make_shared<TensorSource>();
  each_attention(*model, [&](const std::string& path, const at::Tensor& w) {
    add(*lokr, path, "lokr_w1", {4, 4});
    add(*lokr, path, "lokr_w2_a", {w.size(0) / 4, 2});
    add(*lokr, path, "lokr_w2_b", {2, w.size(1) / 4});
    lokr->tensors[kohya(path) + ".alpha"] = at::scalar_tensor(3.0);
  });
  check("lokr", lokr);

  auto kernels = std::make_shared<TensorSource>();
  each_convolution(*model, {"conv1.weight"}, [&](const std::string& path, const at::Tensor& w) {
    if (!path.starts_with("down_blocks.1.")) return;
    add(*kernels, path, "lokr_w1", {4, 4});
    add(*kernels, path, "lokr_t2", {2, 2, 3, 3});
    add(*kernels, path, "lokr_w2_a", {2, w.size(0) / 4});
    add(*kernels, path, "lokr_w2_b", {2, w.size(1) / 4});
    kernels->tensors[kohya(path) + ".alpha"] = at::scalar_tensor(3.0);
  });
  check("lokr_tucker", kernels);
}

TEST_CASE("LoCon's middle kernel is the chain of three convolutions") {
  const at::NoGradGuard no_grad;
  const auto down = seeded("down", {2, 5, 1, 1}), mid = seeded("mid", {2, 2, 3, 3}), up = seeded("up", {7, 2, 1, 1});
  const auto x = seeded("x", {1, 5, 6, 6});
  const auto merged =
      models::adapters::delta({{"down", down}, {"mid", mid}, {"up", up}, {"alpha", at::scalar_tensor(4.0)}},
                              seeded("w", {7, 5, 3, 3}), 0.5, "conv");
  const auto chain = at::conv2d(at::conv2d(at::conv2d(x, down), mid, {}, {1, 1}, {1, 1}), up);
  CHECK(difference(at::conv2d(x, merged, {}, {1, 1}, {1, 1}), chain) < 1e-5);  // 4 / 2 * 0.5 = 1
}

TEST_CASE("magnitudes for columns") {
  const at::NoGradGuard no_grad;
  const auto w = seeded("w", {4, 6}), m = seeded("m", {1, 6}, 0.2, 1.0);
  const auto d = models::adapters::delta({{"down", seeded("d", {1, 6})}, {"up", seeded("u", {4, 1})}, {"dora", m}}, w,
                                         1, "linear");
  CHECK(difference((w + d).square().sum(0).sqrt(), m.view({6})) < 1e-6);
}

TEST_CASE("several adapters add up, whatever was applied before") {
  const at::NoGradGuard no_grad;
  const auto model = tiny();
  Merger merger({{"unet", model, &model->config()}});
  auto a = std::make_shared<TensorSource>(), b = std::make_shared<TensorSource>();
  const std::string path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
  at::Tensor weight;
  each_attention(*model, [&](const std::string& p, const at::Tensor& w) {
    if (p == path) weight = w;
  });
  const auto own = weight.detach().clone();
  add_lora(*a, path, weight, "unet." + path + ".lora_A.weight", "unet." + path + ".lora_B.weight");
  add_lora(*b, path + "2", weight, "unet." + path + ".lora_A.weight", "unet." + path + ".lora_B.weight");
  const auto product = [](const TensorSource& f, const std::string& p) {
    return f.tensors.at("unet." + p + ".lora_B.weight").matmul(f.tensors.at("unet." + p + ".lora_A.weight"));
  };
  merger.apply({{.file = a, .scale = 3}});
  merger.apply({{.file = a, .scale = 0.5}, {.file = b, .scale = -1}});
  CHECK(difference(weight, own + 0.5 * product(*a, path) - product(*b, path)) < 1e-5);
  CHECK(merger.apply({{.file = a, .scale = 0}}).at(0).modules == 1);
  CHECK(at::equal(weight, own));
}

TEST_CASE("text encoders: every way to name their modules") {
  const at::NoGradGuard no_grad;
  const auto config = models::clip::parse_text_config(test::diffusion_config("clip.l"), "config.json");
  auto one = std::make_shared<models::clip::TextEncoder>(config),
       two = std::make_shared<models::clip::TextEncoder>(config);
  test::fill_seeded(*one);
  test::fill_seeded(*two);
  Merger merger({{"text_encoder", one}, {"text_encoder_2", two}});
  const std::string layer = "text_model.encoder.layers.1.self_attn.";
  const auto q = [&](const models::clip::TextEncoder& m) { return m.named_parameters()[layer + "q_proj.weight"]; };
  const auto own = q(*one).detach().clone();
  const auto changed = [&](const std::string& down, const std::string& up) {
    auto file = std::make_shared<TensorSource>();
    add_lora(*file, "te", own, down, up);
    const auto report = merger.apply({{.file = file}}).at(0);
    CHECK(report.unmatched.empty());
    return std::pair(!at::equal(q(*one), own), !at::equal(q(*two), own));
  };
  const std::string flat = "text_model_encoder_layers_1_self_attn_q_proj";
  CHECK(changed("lora_te_" + flat + ".lora_down.weight", "lora_te_" + flat + ".lora_up.weight") ==
        std::pair(true, false));
  CHECK(changed("lora_te1_" + flat + ".lora_down.weight", "lora_te1_" + flat + ".lora_up.weight") ==
        std::pair(true, false));
  CHECK(changed("lora_te2_" + flat + ".lora_down.weight", "lora_te2_" + flat + ".lora_up.weight") ==
        std::pair(false, true));
  for (const std::string part : {"text_encoder.", "text_encoder_2."}) {
    const auto expected = std::pair(part == "text_encoder.", part != "text_encoder.");
    const std::string key = part + layer + "q_proj";
    CHECK(changed(key + ".lora_A.weight", key + ".lora_B.weight") == expected);
    CHECK(changed(key + ".lora_linear_layer.down.weight", key + ".lora_linear_layer.up.weight") == expected);
    CHECK(changed(part + layer + "to_q_lora.down.weight", part + layer + "to_q_lora.up.weight") == expected);
  }
}

TEST_CASE("keys that match nothing are counted, and misfits are refused with the weights unchanged") {
  const at::NoGradGuard no_grad;
  const auto model = tiny();
  const auto before = predict(*model);
  Merger merger({{"unet", model, &model->config()}});
  auto file = std::make_shared<TensorSource>();
  const std::string key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
  file->tensors = {{"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", at::ones({2, 2})},
                   {"emphasis", at::ones({1})},
                   {key + ".lora_down.weight", at::ones({2, 48})},
                   {key + ".lora_up.weight", at::ones({48, 2})}};
  const auto report = merger.apply({{.file = file}}).at(0);
  CHECK(report.unmatched ==
        std::vector<std::string>{"emphasis", "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"});
  CHECK(report.matched == 2);
  CHECK(report.modules == 1);
  merger.apply({});

  const auto refused = [&](std::map<std::string, at::Tensor> tensors) {
    file->tensors.clear();
    for (auto& [name, value] : tensors) file->tensors[key + name] = value;
    const auto message = test::error_of(base::ExitCode::data, [&] { merger.apply({{.file = file}}); });
    CHECK(at::equal(predict(*model), before));
    return message;
  };
  const auto misfit = [&](std::map<std::string, at::Tensor> tensors) {
    return test::contains(refused(std::move(tensors)), "do not fit");
  };
  CHECK(misfit({{".lora_down.weight", at::ones({2, 64})}, {".lora_up.weight", at::ones({48, 2})}}));
  CHECK(misfit({{".lora_down.weight", at::ones({2, 48})}, {".lora_up.weight", at::ones({48, 3})}}));
  CHECK(misfit({{".lora_down.weight", at::ones({2, 48})}, {".lora_up.weight", at::ones({1, 2})}}));
  CHECK(misfit({{".lokr_w1", at::ones({4, 4})}, {".lokr_w2", at::ones({12, 13})}}));
  CHECK(misfit({{".lokr_w1", at::ones({48})}, {".lokr_w2", at::ones({1, 48})}}));
  CHECK(misfit({{".hada_w1_a", at::ones({48, 2})},
                {".hada_w1_b", at::ones({2, 48})},
                {".hada_w2_a", at::ones({48, 2})},
                {".hada_w2_b", at::ones({2, 49})}}));
  CHECK(misfit({{".lora_down.weight", at::ones({2, 48})},
                {".lora_up.weight", at::ones({48, 2})},
                {".dora_scale", at::ones({47})}}));
  CHECK(test::contains(refused({{".lora_up.weight", at::ones({48, 2})}}), "lacks its down"));
  CHECK(test::contains(refused({{".alpha", at::ones({})}}), "lacks its matrices"));
  CHECK(test::contains(refused({{".lora_down.weight", at::ones({2})}, {".lora_up.weight", at::ones({48, 2})}}),
                       "no matrix"));
  CHECK(test::contains(refused({{".lora_down.weight", at::ones({0, 48})}, {".lora_up.weight", at::ones({48, 0})}}),
                       "no matrix"));
  CHECK(test::contains(refused({{".lora_down.weight", at::ones({2, 48})},
                                {".lora_up.weight", at::ones({48, 2})},
                                {".alpha", at::ones({3})}}),
                       "alpha"));
}
