// The networks against pytorch-fid, clean-fid, lpips and transformers, on weights that follow from a formula.
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>

#include "io/safetensors.h"
#include "io/weight_source.h"
#include "metrics/folders.h"
#include "metrics/goldens.h"
#include "metrics/metrics.h"
#include "models/blip/image_reward.h"
#include "models/clip/text_encoder.h"
#include "models/clip/vision_encoder.h"
#include "models/inception/inception.h"
#include "models/lpips/lpips.h"
#include "support/doctest_last.h"
#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::metrics;
using test::difference;
namespace fs = std::filesystem;

const Inception& inception() {
  static const Inception network = seeded_inception();
  return network;
}

std::vector<image::Image> inception_pictures() {
  return {seeded_picture("inception.square", 64, 64), seeded_picture("inception.small", 20, 31),
          seeded_picture("inception.large", 320, 305)};
}

/// Tensors of a file, kept while it is written.
class Tensors {
 public:
  void add(const std::string& name, const at::Tensor& tensor) { tensors_[name] = tensor.contiguous(); }
  void add_all(const nn::Module& module) {
    for (const auto& entry : module.named_parameters())
      add(entry.key(), seeded_weight(entry.key(), entry.value().sizes()));
  }
  void erase(const std::string& name) { tensors_.erase(name); }
  void write(const std::string& path) const {
    std::vector<io::TensorBytes> entries;
    for (const auto& [name, tensor] : tensors_)
      entries.push_back(
          {{name, io::dtype_of(tensor.scalar_type()), tensor.sizes().vec()},
           {static_cast<const std::byte*>(tensor.const_data_ptr()), static_cast<std::size_t>(tensor.nbytes())}});
    io::write_safetensors(path, entries, {});
  }

 private:
  std::map<std::string, at::Tensor> tensors_;
};

const char* const kClipConfig = R"({"model_type": "clip", "projection_dim": 24,
  "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
  "vision_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                    "image_size": 32, "patch_size": 8}})";

const char* const kBlipConfig = R"({"model_type": "blip",
  "text_config": {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2,
                  "max_position_embeddings": 40, "vocab_size": 80, "encoder_hidden_size": 48},
  "vision_config": {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                    "image_size": 32, "patch_size": 8, "layer_norm_eps": 1e-6}})";

/// A CLIPModel folder whose weights are those of seeded_clip().
std::string clip_folder(const test::Scratch& scratch, const std::string& preparation = {}) {
  const auto json = base::parse_json(kClipConfig, "config");
  Tensors tensors;
  tensors.add_all(models::clip::TextEncoder(models::clip::parse_text_config(json, "config")));
  tensors.add_all(models::clip::VisionEncoder(models::clip::parse_vision_config(json, "config")));
  tensors.add("logit_scale", at::full({}, 2.5, at::kFloat));
  tensors.write(scratch.file("model.safetensors"));
  test::put_file(scratch.file("config.json"), kClipConfig);
  if (!preparation.empty()) test::put_file(scratch.file("preprocessor_config.json"), preparation);
  return scratch.path().native();
}

double cosine(const ClipScorer& scorer, const image::Image& picture, const std::string& text) {
  return (scorer.picture_embeddings({scorer.prepare(picture)}) * scorer.text_embeddings({text})).sum().item<double>();
}

}  // namespace

TEST_CASE("Inception's features equal pytorch-fid's and clean-fid's within 1e-4 of their largest") {
  const auto goldens = io::WeightSource::open(std::string(ATELIER_TEST_DATA) + "/metrics/features.safetensors");
  for (const auto variant : {InceptionVariant::pytorch_fid, InceptionVariant::clean_fid}) {
    const std::string name = variant_name(variant);
    CAPTURE(name);
    std::vector<at::Tensor> prepared;
    for (const auto& picture : inception_pictures()) prepared.push_back(Inception::prepare(picture, variant));
    const auto features = inception().features(prepared, variant);
    const auto expected = goldens->load(name, at::kFloat, at::kCPU);
    const double largest = expected.abs().max().item<double>();
    MESSAGE(name << ": largest difference " << difference(features, expected) << " of " << largest);
    CHECK(difference(features, expected) < 1e-4 * largest);
  }
}

TEST_CASE("pictures of one size go through together, with the same features") {
  const auto variant = InceptionVariant::pytorch_fid;
  const auto a = Inception::prepare(seeded_picture("a", 40, 30), variant),
             b = Inception::prepare(seeded_picture("b", 40, 30), variant);
  const auto both = inception().features({a, b}, variant);
  CHECK(difference(both.narrow(0, 0, 1), inception().features({a}, variant)) < 1e-4);
  CHECK(difference(both.narrow(0, 1, 1), inception().features({b}, variant)) < 1e-4);
  CHECK(difference(both.narrow(0, 0, 1), both.narrow(0, 1, 1)) > 1e-2);
}

TEST_CASE("LPIPS equals the lpips package within 1e-4") {
  for (const std::string trunk : {"alex", "vgg", "squeeze"}) {
    CAPTURE(trunk);
    const Lpips network = seeded_lpips(trunk);
    CHECK(network.variant() == trunk);
    const int sizes[2][2] = {{64, 48}, {71, 66}};
    for (std::size_t i = 0; i < 2; ++i) {
      const auto [width, height] = sizes[i];
      const auto name = "lpips." + std::to_string(width);
      const auto a = network.features({to_byte_tensor(seeded_picture(name + ".a", width, height))});
      const auto b = network.features({to_byte_tensor(seeded_picture(name + ".b", width, height))});
      const double expected = test::metrics_golden("lpips").at(trunk)[i].get<double>();
      CHECK(std::abs(network.distances(a, b).item<double>() - expected) < 1e-4);
      CHECK(network.distances(a, a).item<double>() == 0);
    }
  }
}

TEST_CASE("LPIPS refuses pictures that are too small for its trunk") {
  const Lpips network = seeded_lpips("squeeze");
  const auto small = to_byte_tensor(seeded_picture("a", 40, 16));
  CHECK(
      test::contains(test::error_of(base::ExitCode::data, [&] { network.features({small}); }), "40x16 are too small"));
  for (const std::string trunk : {"alex", "vgg", "squeeze"}) {
    const int least = trunk == "alex" ? 31 : trunk == "vgg" ? 16 : 17;
    CHECK(seeded_lpips(trunk).features({to_byte_tensor(seeded_picture("a", least, least))}).back().size(2) >= 1);
  }
}

TEST_CASE("cosines equal transformers' CLIPModel within 1e-5, whatever the pictures' sizes") {
  const auto& golden = test::metrics_golden("clip");
  const ClipScorer plain = seeded_clip(), pad = seeded_clip(ClipPreparation::Fit::pad);
  CHECK(plain.logit_scale() == doctest::Approx(golden.at("logit_scale").get<double>()));
  for (std::size_t i = 0; i < golden.at("sizes").size(); ++i) {
    const auto& size = golden.at("sizes")[i];
    const auto picture = seeded_picture("clip." + std::to_string(i), size[0].get<int>(), size[1].get<int>());
    for (std::size_t t = 0; t < golden.at("texts").size(); ++t) {
      CAPTURE(i);
      CAPTURE(t);
      const auto text = golden.at("texts")[t].get<std::string>();
      CHECK(std::abs(cosine(plain, picture, text) - golden.at("cosines")[i][t].get<double>()) < 1e-5);
      CHECK(std::abs(cosine(pad, picture, text) - golden.at("padded")[i][t].get<double>()) < 1e-5);
    }
  }
}

TEST_CASE("a CLIPModel folder is opened with its own preparation, or CLIP's") {
  const test::Scratch scratch;
  const auto picture = seeded_picture("clip.1", 50, 40);
  const ClipScorer bare = ClipScorer::open(clip_folder(scratch));
  CHECK(std::abs(cosine(bare, picture, "a dog") - cosine(seeded_clip(), picture, "a dog")) < 1e-6);
  CHECK(bare.weights_sha256().size() == 64);
  const auto open = [&](const std::string& preparation) {
    const test::Scratch other;
    return ClipScorer::open(clip_folder(other, preparation));
  };
  const ClipScorer square = open(R"({"size": {"height": 32, "width": 32}, "crop_size": 32, "resample": 2})");
  CHECK(std::abs(cosine(square, picture, "a dog") - cosine(bare, picture, "a dog")) > 1e-4);
  const auto refused = [&](const std::string& preparation) {
    return test::error_of(base::ExitCode::data, [&] { open(preparation); });
  };
  CHECK(test::contains(refused(R"({"crop_size": 224})"), "do not suit a vision tower of 32x32"));
  CHECK(test::contains(refused(R"({"crop_size": 32, "do_center_crop": false})"), "do_center_crop"));
  CHECK(test::contains(refused(R"({"crop_size": 32, "image_std": [1, 0, 1]})"), "image_std"));
  CHECK(test::contains(refused(R"({"crop_size": 32, "size": {"shortest_edge": -1}})"), "shortest_edge"));
  CHECK(test::contains(refused(R"({"crop_size": 32, "resample": 9})"), "resample"));
}

TEST_CASE("preference scores: PickScore scales the cosine, HPSv2 takes 100 times it") {
  const test::Scratch scratch;
  const std::string folder = clip_folder(scratch);
  const auto pickscore = Preference::open(folder, PreferenceModel::pickscore),
             hpsv2 = Preference::open(folder, PreferenceModel::hpsv2);
  CHECK(pickscore.score(0.5) == doctest::Approx(0.5 * std::exp(2.5)));
  CHECK(hpsv2.score(0.5) == 50);
  const auto wide = seeded_picture("clip.1", 50, 40), square = seeded_picture("clip.0", 32, 32);
  CHECK(difference(pickscore.prepare(wide), hpsv2.prepare(wide)) > 0);
  const auto scores = pickscore.scores({pickscore.prepare(wide), pickscore.prepare(square)}, {"a dog", "a cat"});
  REQUIRE(scores.size() == 2);
  CHECK(scores[0] == doctest::Approx(pickscore.score(cosine(*pickscore.clip(), wide, "a dog"))).epsilon(1e-5));
  CHECK(scores[1] == doctest::Approx(pickscore.score(cosine(*pickscore.clip(), square, "a cat"))).epsilon(1e-5));
  CHECK(pickscore.weights_sha256() == pickscore.clip()->weights_sha256());
  CHECK(pickscore.reward() == nullptr);
  for (const auto model : {PreferenceModel::pickscore, PreferenceModel::hpsv2, PreferenceModel::imagereward})
    CHECK(parse_preference_model(preference_name(model)) == model);
  CHECK_FALSE(parse_preference_model("hps"));
}

TEST_CASE("ImageReward equals transformers' parts of BLIP, whatever the pictures' sizes and the texts' lengths") {
  const auto& golden = test::metrics_golden("imagereward");
  const auto& texts = test::metrics_golden("clip").at("texts");
  const ImageReward network = seeded_image_reward();
  for (std::size_t i = 0; i < golden.at("sizes").size(); ++i) {
    const auto& size = golden.at("sizes")[i];
    const auto picture = seeded_picture("clip." + std::to_string(i), size[0].get<int>(), size[1].get<int>());
    std::vector<std::string> words;
    for (const auto& text : texts) words.push_back(text.get<std::string>());
    const auto rewards = network.rewards(std::vector<at::Tensor>(words.size(), network.prepare(picture)), words);
    for (std::size_t t = 0; t < words.size(); ++t) {
      CAPTURE(i);
      CAPTURE(t);
      CHECK(std::abs(rewards[t] - golden.at("values")[i][t].get<double>()) < 1e-4);
    }
  }
}

TEST_CASE("an ImageReward folder is opened, and what is wrong with it is named") {
  const test::Scratch scratch;
  const std::string folder = scratch.path().native();
  const auto json = base::parse_json(kBlipConfig, "config");
  Tensors tensors;
  tensors.add_all(models::blip::ImageRewardNetwork(models::blip::parse_config(json, "config")));
  tensors.write(scratch.file("model.safetensors"));
  test::put_file(scratch.file("config.json"), kBlipConfig);
  std::string pieces = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n";
  for (const char* begin : {"", "##"})
    for (const char c : std::string("abcdefghijklmnopqrstuvwxyz0123456789")) pieces += std::string(begin) + c + "\n";
  test::put_file(scratch.file("vocab.txt"), pieces + "!\n,\n.\n'\n");
  const auto open = [&] { return Preference::open(folder, PreferenceModel::imagereward); };
  const Preference model = open();
  CHECK(model.clip() == nullptr);
  CHECK(model.weights_sha256().size() == 64);
  const auto picture = seeded_picture("clip.1", 50, 40);
  const Preference seeded(seeded_image_reward());
  CHECK(model.scores({model.prepare(picture)}, {"a dog"}) == seeded.scores({seeded.prepare(picture)}, {"a dog"}));
  const auto refused = [&](base::ExitCode code) { return test::error_of(code, open); };
  test::put_file(scratch.file("vocab.txt"), pieces + "!\n,\n.\n'\nextra\n");
  CHECK(test::contains(test::error_of(base::ExitCode::data,
                                      [&] {
                                        const Preference other = open();
                                        other.scores({other.prepare(picture)}, {"extra"});
                                      }),
                       "vocabulary of 80"));
  fs::remove(scratch.path() / "vocab.txt");
  CHECK(test::contains(refused(base::ExitCode::no_input), "vocab.txt"));
  test::put_file(scratch.file("vocab.txt"), pieces);
  tensors.erase("mlp.layers.7.bias");
  tensors.write(scratch.file("model.safetensors"));
  CHECK(test::contains(refused(base::ExitCode::data), "mlp.layers.7.bias"));
  test::put_file(scratch.file("config.json"), kClipConfig);
  CHECK(test::contains(refused(base::ExitCode::data), "model_type \"clip\""));
}

TEST_CASE("files of weights are told apart, and what is missing is named") {
  const test::Scratch scratch;
  const std::string path = scratch.file("weights.safetensors");
  const auto refused = [&](const auto& open) { return test::error_of(base::ExitCode::data, open); };
  for (const auto trunk : {models::lpips::Trunk::alex, models::lpips::Trunk::squeeze}) {
    Tensors tensors;
    tensors.add_all(models::lpips::Network(trunk));
    tensors.add("classifier.1.weight", at::full({2, 2}, 1.0, at::kFloat));
    tensors.write(path);
    const Lpips network = Lpips::open(path);
    CHECK(network.variant() == models::lpips::trunk_name(trunk));
    CHECK(network.weights_sha256().size() == 64);
    tensors.erase("lin2.model.1.weight");
    tensors.write(path);
    CHECK(test::contains(refused([&] { Lpips::open(path); }), "lin2.model.1.weight"));
    tensors.erase("lin0.model.1.weight");
    tensors.write(path);
    CHECK(test::contains(refused([&] { Lpips::open(path); }), "no linear layers"));
    CHECK(test::contains(refused([&] { Inception::open(path); }), "Conv2d_1a_3x3.conv.weight"));
  }
  CHECK(test::error_of(base::ExitCode::no_input, [&] { Inception::open(scratch.file("none.safetensors")); }) !=
        "(no error)");
}

TEST_CASE("vision configurations out of range are refused") {
  const auto with = [](const std::string& key, const base::Json& value) {
    auto json = base::parse_json(kClipConfig, "config");
    json["vision_config"][key] = value;
    return test::error_of(base::ExitCode::data, [&] { models::clip::parse_vision_config(json, "config.json"); });
  };
  for (const std::string key : {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                                "image_size", "patch_size", "layer_norm_eps", "num_channels"})
    for (const base::Json& value : {base::Json(-1), base::Json(std::int64_t{1} << 40), base::Json("many")}) {
      CAPTURE(key);
      CHECK(test::contains(with(key, value), key));
    }
  CHECK(test::contains(with("hidden_act", "tanh"), "tanh"));
  CHECK(test::contains(with("num_attention_heads", 5), "num_attention_heads"));
  CHECK(test::contains(with("model_type", "vit"), "vit"));
}

TEST_CASE("BLIP's configurations out of range are refused") {
  const auto with = [](const std::string& part, const std::string& key, const base::Json& value) {
    auto json = base::parse_json(kBlipConfig, "config");
    json[part][key] = value;
    return test::error_of(base::ExitCode::data, [&] { models::blip::parse_config(json, "config.json"); });
  };
  const std::vector<std::string> both{"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                                      "layer_norm_eps"};
  for (const std::string part : {"vision_config", "text_config"}) {
    std::vector<std::string> keys = both;
    for (const char* key : {"image_size", "patch_size"})
      if (part == "vision_config") keys.emplace_back(key);
    for (const char* key : {"vocab_size", "max_position_embeddings", "encoder_hidden_size"})
      if (part == "text_config") keys.emplace_back(key);
    for (const std::string& key : keys)
      for (const base::Json& value : {base::Json(-1), base::Json(std::int64_t{1} << 40), base::Json("many")}) {
        CAPTURE(key);
        CHECK(test::contains(with(part, key, value), key));
      }
    CHECK(test::contains(with(part, "hidden_act", "tanh"), "tanh"));
    CHECK(test::contains(with(part, "num_attention_heads", 5), "num_attention_heads"));
  }
  CHECK(test::contains(with("text_config", "encoder_hidden_size", 64), "encoder_hidden_size"));
  CHECK(test::contains(
      test::error_of(base::ExitCode::data,
                     [] { models::blip::parse_config(base::parse_json(R"({"model_type": "blip"})", "c"), "c"); }),
      "vision_config"));
}
