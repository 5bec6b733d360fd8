// Single files in the original layout: names against diffusers' converters at full size (scripts/fixtures/single_file.py),
// values through a small file that this test writes.
#include <algorithm>
#include <functional>
#include <map>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>

#include "base/sha256.h"
#include "models/clip/text_encoder.h"
#include "models/seeded.h"
#include "models/single_file/layout.h"
#include "models/single_file/single_file.h"
#include "models/unet/unet.h"
#include "models/vae/autoencoder.h"
#include "support/doctest_last.h"
#include "support/errors.h"
#include "support/scratch.h"

namespace {

using namespace atelier;
namespace single_file = models::single_file;
using single_file::Change;
using single_file::Component;
using single_file::Family;
using single_file::Stored;

const base::Json& fixture() {
  static const base::Json json = base::read_json_file(std::string(ATELIER_TEST_DATA) + "/diffusion/single_file.json");
  return json;
}

base::Json published(const std::string& name) { return fixture().at("configs").at(name); }

/// Shapes of a checkpoint without its numbers.
class Shapes : public io::WeightSource {
 public:
  void add(const std::string& name, std::vector<std::int64_t> shape) {
    infos_[name] = {.name = name, .dtype = io::DType::F32, .shape = std::move(shape)};
  }
  bool has(const std::string& name) const override { return infos_.contains(name); }
  const io::TensorInfo& info(const std::string& name) const override {
    if (!has(name)) throw base::Error(base::ExitCode::data, "no " + name);
    return infos_.at(name);
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> result;
    for (const auto& [name, info] : infos_) result.push_back(name);
    return result;
  }
  const std::vector<io::WeightFile>& files() const override { return files_; }
  at::Tensor load(const std::string& name, c10::ScalarType, c10::Device) override {
    return at::arange(info(name).elements(), at::kFloat).mul_(spread);
  }
  void note_missing(const std::string&) override {}
  void note_used(const std::string& name) override { used.push_back(name); }
  std::vector<std::string> missing() const override { return {}; }
  std::vector<std::string> unused() const override { return {}; }

  double spread = 0;  ///< of what load() gives
  std::vector<std::string> used;

 private:
  std::map<std::string, io::TensorInfo> infos_;
  std::vector<io::WeightFile> files_{{"model.safetensors", 0}};
};

using Locate = std::function<Stored(const std::string&)>;

/// "DIFFUSERS ORIGINAL" of every parameter, as the fixture's script writes them.
std::string digest(const nn::Module& module, const Locate& locate, std::size_t& count) {
  std::vector<std::string> lines;
  for (const auto& entry : module.named_parameters()) {
    const Stored stored = locate(entry.key());
    lines.push_back(entry.key() + " " + stored.name +
                    (stored.change == Change::third_of_rows ? "#" + std::to_string(stored.index) : "") + "\n");
  }
  count = lines.size();
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const auto& line : lines) text += line;
  return base::sha256_hex(text);
}

/// The stored shape of a parameter.
std::vector<std::int64_t> stored_shape(std::vector<std::int64_t> shape, Change change) {
  if (change == Change::third_of_rows) shape[0] *= 3;
  if (change == Change::transpose) std::swap(shape[0], shape[1]);
  if (change == Change::flatten) shape.insert(shape.end(), {1, 1});
  return shape;
}

void add_shapes(Shapes& file, const std::string& prefix, const nn::Module& module, const Locate& locate) {
  for (const auto& entry : module.named_parameters()) {
    const Stored stored = locate(entry.key());
    file.add(prefix + stored.name, stored_shape(entry.value().sizes().vec(), stored.change));
  }
}

Locate unet_locate(const models::unet::Config& config) {
  return [config](const std::string& name) { return single_file::unet_stored(config, name); };
}
Locate vae_locate(std::size_t levels) {
  return [levels](const std::string& name) { return single_file::vae_stored(levels, name); };
}

models::unet::Config unet(const std::string& name) {
  return models::unet::parse_config(published("unet." + name), name);
}
models::clip::TextConfig text(const std::string& name) {
  return models::clip::parse_text_config(published("clip." + name), name);
}

/// Headers of a whole published checkpoint.
Shapes checkpoint(const std::string& name) {
  Shapes file;
  const auto config = unet(name);
  add_shapes(file, "model.diffusion_model.", models::unet::UNet(config), unet_locate(config));
  add_shapes(file, "first_stage_model.", models::vae::AutoencoderKl(models::vae::parse_config(published("vae"), "vae")),
             vae_locate(4));
  const Locate same = [](const std::string& n) { return Stored{n}; };
  if (name == "sd1" || name == "inpainting")
    add_shapes(file, "cond_stage_model.transformer.", models::clip::TextEncoder(text("l")), same);
  if (name == "sd2") {
    auto h = text("h");
    h.layers = 24;  // the file has the last layer too
    add_shapes(file, "cond_stage_model.model.", models::clip::TextEncoder(h), single_file::open_clip_stored);
    file.add("cond_stage_model.model.text_projection", {1024, 1024});
  }
  if (name == "sdxl")
    add_shapes(file, "conditioner.embedders.0.transformer.", models::clip::TextEncoder(text("l")), same);
  if (name.starts_with("sdxl"))
    add_shapes(file, name == "sdxl" ? "conditioner.embedders.1.model." : "conditioner.embedders.0.model.",
               models::clip::TextEncoder(text("g")), single_file::open_clip_stored);
  return file;
}

/// Shapes of a model's parameters, by name.
std::map<std::string, std::vector<std::int64_t>> shapes(const nn::Module& module) {
  std::map<std::string, std::vector<std::int64_t>> result;
  for (const auto& entry : module.named_parameters()) result[entry.key()] = entry.value().sizes().vec();
  return result;
}

/// Writes what fill_seeded() puts into a model, in the original layout.
class FileWriter {
 public:
  void add(const std::string& prefix, const nn::Module& module, const Locate& locate) {
    for (const auto& entry : module.named_parameters()) {
      const auto value = test::seeded_weight(entry.key(), entry.value().sizes());
      const Stored stored = locate(entry.key());
      const std::string name = prefix + stored.name;
      if (stored.change == Change::third_of_rows) {
        thirds_[name].resize(3);
        thirds_[name][static_cast<std::size_t>(stored.index)] = value;
      } else {
        tensors_[name] = stored.change == Change::transpose ? value.t().contiguous() : value;
        shapes_[name] = stored_shape(value.sizes().vec(), stored.change);
      }
    }
  }
  void add(const std::string& name, const at::Tensor& value) {
    tensors_[name] = value;
    shapes_[name] = value.sizes().vec();
  }
  void write(const std::string& path) {
    for (const auto& [name, parts] : thirds_) add(name, at::cat(parts, 0));
    std::vector<io::TensorBytes> list;
    for (const auto& [name, value] : tensors_) {
      io::TensorInfo info{.name = name, .dtype = io::DType::F32, .shape = shapes_[name]};
      list.push_back({std::move(info), {static_cast<const std::byte*>(value.const_data_ptr()), value.nbytes()}});
    }
    io::write_safetensors(path, list, {});
  }

 private:
  std::map<std::string, at::Tensor> tensors_;
  std::map<std::string, std::vector<std::int64_t>> shapes_;
  std::map<std::string, std::vector<at::Tensor>> thirds_;
};

void check_loaded(nn::Module& module, io::WeightSource& source) {
  nn::load_parameters(module, source, nn::NameMap(), at::kFloat, at::kCPU);
  for (const auto& entry : module.named_parameters())
    CHECK_MESSAGE(at::equal(entry.value(), test::seeded_weight(entry.key(), entry.value().sizes())), entry.key());
  CHECK(source.unused().empty());
}

}  // namespace

TEST_CASE("names of every part at full size are those that diffusers' converters read") {
  std::size_t count = 0;
  const auto check = [&](const std::string& table, const std::string& sum) {
    CAPTURE(table);
    CHECK(count == fixture().at("tables").at(table).at("count").get<std::size_t>());
    CHECK(sum == fixture().at("tables").at(table).at("sha256").get<std::string>());
  };
  for (const std::string name : {"sd1", "inpainting", "sd2", "sdxl", "sdxl-refiner"}) {
    const auto config = unet(name);
    check("unet." + name, digest(models::unet::UNet(config), unet_locate(config), count));
  }
  check("vae",
        digest(models::vae::AutoencoderKl(models::vae::parse_config(published("vae"), "vae")), vae_locate(4), count));
  for (const std::string name : {"h", "g"})
    check("clip." + name, digest(models::clip::TextEncoder(text(name)), single_file::open_clip_stored, count));
}

TEST_CASE("published checkpoints are recognised, and their parts have the published sizes") {
  const std::map<std::string, Family> families{{"sd1", Family::sd1},
                                               {"inpainting", Family::sd1},
                                               {"sd2", Family::sd2},
                                               {"sdxl", Family::sdxl},
                                               {"sdxl-refiner", Family::sdxl_refiner}};
  for (const auto& [name, family] : families) {
    CAPTURE(name);
    auto file = checkpoint(name);
    const auto d = single_file::recognise(file);
    CHECK(d.family == family);
    CHECK(d.inpainting == (name == "inpainting"));
    const auto config = models::unet::parse_config(d.unet, name);
    CHECK(shapes(models::unet::UNet(config)) == shapes(models::unet::UNet(unet(name))));
    for (std::size_t i = 0; i < config.levels.size(); ++i) {
      const auto& level = config.levels[i];
      if (level.down_attention || i + 1 == config.levels.size()) CHECK(level.heads == unet(name).levels[i].heads);
    }
    CHECK(shapes(models::vae::AutoencoderKl(models::vae::parse_config(d.vae, name))) ==
          shapes(models::vae::AutoencoderKl(models::vae::parse_config(published("vae"), name))));
    CHECK(d.vae.at("scaling_factor").get<double>() == (name.starts_with("sdxl") ? 0.13025 : 0.18215));
    CHECK(d.has(Component::text_encoder) == (name != "sdxl-refiner"));
    CHECK(d.has(Component::text_encoder_2) == name.starts_with("sdxl"));
    const auto check_text = [&](const base::Json& json, const std::string& kind) {
      const auto c = models::clip::parse_text_config(json, name), wanted = text(kind);
      CHECK(shapes(models::clip::TextEncoder(c)) == shapes(models::clip::TextEncoder(wanted)));
      CHECK(c.heads == wanted.heads);
      CHECK(c.activation == wanted.activation);
      CHECK(c.eos_token_id == wanted.eos_token_id);
    };
    if (d.has(Component::text_encoder)) check_text(d.text_encoder, name == "sd2" ? "h" : "l");
    if (d.has(Component::text_encoder_2)) check_text(d.text_encoder_2, "g");
    CHECK(d.scheduler.at("prediction_type") == "epsilon");
  }
}

TEST_CASE("markers of the prediction type and of schedules") {
  auto sd2 = checkpoint("sd2");
  sd2.spread = 0.1 / 92.4;  // 0, 1, ... 319 spread by 92.5
  CHECK(single_file::recognise(sd2).scheduler.at("prediction_type") == "v_prediction");
  CHECK(single_file::recognise(sd2).unet.at("sample_size") == 96);
  sd2.spread = 0.08 / 92.4;
  CHECK(single_file::recognise(sd2).scheduler.at("prediction_type") == "epsilon");

  auto sdxl = checkpoint("sdxl");
  sdxl.add("v_pred", {});
  CHECK(single_file::recognise(sdxl).scheduler.at("prediction_type") == "v_prediction");
  CHECK_FALSE(single_file::recognise(sdxl).scheduler.contains("rescale_betas_zero_snr"));
  sdxl.add("ztsnr", {});
  CHECK(single_file::recognise(sdxl).scheduler.at("rescale_betas_zero_snr") == true);
  sdxl.add("edm_vpred.sigma_max", {});
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { single_file::recognise(sdxl); }), "EDM"));
}

TEST_CASE("checkpoints of other kinds are named") {
  const auto message = [](const std::string& tensor) {
    Shapes file;
    file.add(tensor, {1});
    return test::error_of(base::ExitCode::data, [&] { single_file::recognise(file); });
  };
  CHECK(test::contains(message("model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias"),
                       "Stable Diffusion 3"));
  CHECK(test::contains(message("double_blocks.0.img_attn.norm.key_norm.scale"), "FLUX"));
  CHECK(test::contains(message("model.embed_tokens.weight"), "not a Stable Diffusion checkpoint"));
  // Tensors of the right names and wrong shapes.
  auto odd = checkpoint("sd1");
  odd.add("model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight", {3});
  CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { single_file::recognise(odd); }), "dimensions"));
}

TEST_CASE("a small file gives every part its weights: fused, turned and flattened ones too") {
  const at::NoGradGuard no_grad;
  auto unet_json = published("unet.sdxl");
  unet_json["block_out_channels"] = {32, 32, 64};
  unet_json["attention_head_dim"] = {1, 1, 1};
  unet_json["transformer_layers_per_block"] = {1, 1, 2};
  unet_json["cross_attention_dim"] = 48;
  unet_json["projection_class_embeddings_input_dim"] = 40;
  auto vae_json = published("vae");
  vae_json["block_out_channels"] = {32, 32, 64, 64};
  auto l_json = published("clip.l"), g_json = published("clip.g");
  for (auto* json : {&l_json, &g_json}) {
    json->update({{"hidden_size", 16},
                  {"intermediate_size", 24},
                  {"num_hidden_layers", 10},
                  {"num_attention_heads", 1},
                  {"vocab_size", 50}});
  }
  g_json["projection_dim"] = 12;

  const auto config = models::unet::parse_config(unet_json, "unet");
  models::unet::UNet net(config);
  models::vae::AutoencoderKl vae(models::vae::parse_config(vae_json, "vae"));
  models::clip::TextEncoder l(models::clip::parse_text_config(l_json, "l")),
      g(models::clip::parse_text_config(g_json, "g"));
  FileWriter writer;
  writer.add("model.diffusion_model.", net, unet_locate(config));
  writer.add("first_stage_model.", vae, vae_locate(4));
  writer.add("conditioner.embedders.0.transformer.", l, [](const std::string& n) { return Stored{n}; });
  writer.add("conditioner.embedders.1.model.", g, single_file::open_clip_stored);
  writer.add("conditioner.embedders.1.model.logit_scale", at::ones({1}));
  writer.add("alphas_cumprod", at::ones({7}));
  writer.add("somebody.elses", at::ones({3}));
  const test::Scratch scratch;
  writer.write(scratch.file("model.safetensors"));

  auto file = io::WeightSource::open(scratch.file("model.safetensors"));
  const auto d = single_file::recognise(*file);
  CHECK(d.family == Family::sdxl);
  models::unet::UNet net2(models::unet::parse_config(d.unet, "unet"));
  models::vae::AutoencoderKl vae2(models::vae::parse_config(d.vae, "vae"));
  models::clip::TextEncoder l2(models::clip::parse_text_config(d.text_encoder, "l")),
      g2(models::clip::parse_text_config(d.text_encoder_2, "g"));
  check_loaded(net2, *single_file::open_component(file, d, Component::unet));
  check_loaded(vae2, *single_file::open_component(file, d, Component::vae));
  check_loaded(l2, *single_file::open_component(file, d, Component::text_encoder));
  single_file::note_ignored(*file, d);
  check_loaded(g2, *single_file::open_component(file, d, Component::text_encoder_2));
  CHECK(file->unused() == std::vector<std::string>{"somebody.elses"});

  // The same autoencoder alone, and a checkpoint without one.
  models::vae::AutoencoderKl vae3(models::vae::parse_config(single_file::open_vae(file).config, "vae"));
  check_loaded(vae3, *single_file::open_vae(file).weights);
  FileWriter alone;
  alone.add("", vae, vae_locate(4));
  alone.write(scratch.file("vae.safetensors"));
  const auto vae_file = single_file::open_vae(io::WeightSource::open(scratch.file("vae.safetensors")));
  models::vae::AutoencoderKl vae4(models::vae::parse_config(vae_file.config, "vae"));
  check_loaded(vae4, *vae_file.weights);
  auto bare = d;
  bare.vae = nullptr;
  CHECK(test::contains(
      test::error_of(base::ExitCode::data, [&] { single_file::open_component(file, bare, Component::vae); }),
      "no autoencoder"));
}
