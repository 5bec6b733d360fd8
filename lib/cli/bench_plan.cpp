#include "cli/bench_plan.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "image/read.h"
#include "io/weight_source.h"
#include "metrics/pictures.h"
#include "models/blip/image_reward.h"
#include "models/clip/text_encoder.h"
#include "models/clip/vision_encoder.h"
#include "models/inception/inception.h"
#include "models/lpips/lpips.h"
#include "nn/module.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using models::inception::InceptionV3;
using models::lpips::Trunk;

constexpr std::uint64_t kFloat = 4, kDouble = 8;

/// A checkpoint's facts; `ignores` tells the tensors that are known and left alone.
template <class Ignores>
Plan plan_of(const std::string& family, io::WeightSource& weights, const std::vector<nn::Module*>& networks,
             std::uint64_t element, Ignores ignores) {
  Plan plan;
  plan.family = family;
  for (const auto& file : weights.files()) plan.files.push_back(file.path);
  plan.tensors = weights.names().size();
  for (nn::Module* network : networks) {
    nn::account_parameters(*network, weights, nn::NameMap{});
    for (const auto& parameter : network->named_parameters())
      plan.parameters += static_cast<std::uint64_t>(parameter.value().numel());
  }
  for (const std::string& name : weights.names())
    if (ignores(name)) weights.note_used(name);
  plan.missing = weights.missing();
  plan.unused = weights.unused();
  plan.weights = plan.parameters * element;
  return plan;
}

struct Pictures {
  std::uint64_t count = 0, pixels = 512 * 512;  ///< of the first one that can be read
};

/// Of a folder, or of a picture alone; a file of features has none.
Pictures pictures_in(const std::string& path) {
  if (path.ends_with(".safetensors")) return {};
  const bool folder = fs::is_directory(path);
  const std::vector<std::string> files = folder ? metrics::list_pictures(path).files : std::vector{path};
  Pictures pictures;
  pictures.count = files.size();
  for (const std::string& file : files) {
    try {
      const auto info = image::read_info(file);
      pictures.pixels = static_cast<std::uint64_t>(info.width) * static_cast<std::uint64_t>(info.height);
      break;
    } catch (const base::Error&) {
      if (!folder) throw;  // of a folder's, the metric itself lists what it leaves out
    }
  }
  return pictures;
}

/// Channels that a pixel of the picture keeps in the taps of a trunk, and at most has at once, in hundredths.
struct Widths {
  std::uint64_t kept, widest;
};
Widths widths_of(Trunk trunk) {
  switch (trunk) {
    case Trunk::vgg: return {12'200, 19'200};    // 64 + 128 / 4 + 256 / 16 + 512 / 64 + 512 / 256
    case Trunk::squeeze: return {3'500, 4'800};  // its first convolution halves the sides,
    case Trunk::alex: return {1'050, 1'200};     // its quarters them
  }
  return {};
}

}  // namespace

Plan inception_plan(const std::string& file, const std::string& real, const std::string& fake, std::int64_t batch) {
  const auto weights = io::WeightSource::open(file);
  InceptionV3 network;
  Plan plan = plan_of("inception", *weights, {&network}, kFloat, [](const std::string& name) {
    return name.starts_with("fc.") || name.starts_with("AuxLogits.") || name.ends_with(".num_batches_tracked");
  });
  constexpr std::uint64_t dimension = InceptionV3::features, square = dimension * dimension * kDouble;
  const Pictures sides[] = {pictures_in(real), pictures_in(fake)};
  for (const Pictures& side : sides) plan.cache += side.count * dimension * kFloat + square;
  // The second block's maps of 147 x 147, what goes in, what comes out and what is pooled; the pictures that are read ahead.
  const std::uint64_t rows = batch > 0 ? static_cast<std::uint64_t>(batch) : 32;
  const std::uint64_t maps = rows * 147 * 147 * (32 + 64 + 64) * kFloat;
  const std::uint64_t read = 3 * rows * std::max(sides[0].pixels, sides[1].pixels) * 3;
  // Afterwards: the covariances' product, its roots, and the features in double precision.
  const std::uint64_t distance = 3 * square + std::max(sides[0].count, sides[1].count) * dimension * kDouble;
  plan.activations = std::max(maps + read, distance);
  return plan;
}

Plan lpips_plan(const std::string& file, const std::string& pictures, bool all_pairs, std::int64_t batch) {
  const auto weights = io::WeightSource::open(file);
  models::lpips::Network network(models::lpips::recognise(*weights));
  Plan plan = plan_of(std::string("lpips-") + models::lpips::trunk_name(network.trunk()), *weights, {&network}, kFloat,
                      [](const std::string& name) { return name.starts_with("classifier."); });
  const Pictures set = pictures_in(pictures);
  const Widths widths = widths_of(network.trunk());
  const std::uint64_t kept = set.pixels * widths.kept * kFloat / 100;
  constexpr std::uint64_t most = std::uint64_t{1} << 30;  // of features that are held at a time
  if (all_pairs) plan.cache = std::min(set.count * kept, most);
  const std::uint64_t rows = 2 * (batch > 0 ? static_cast<std::uint64_t>(batch) : 8);
  plan.activations = rows * (set.pixels * widths.widest * kFloat / 100 + 2 * kept);
  return plan;
}

namespace {

/// A layer of a vision tower at its widest: its input, the norm of it, queries, keys, values and their result, and the inner layer
/// twice; beside it the pictures.
template <class VisionConfig>
std::uint64_t tower_bytes(const VisionConfig& config, std::int64_t batch, std::uint64_t element) {
  const std::uint64_t rows = batch > 0 ? static_cast<std::uint64_t>(batch) : 16;
  const auto tokens = static_cast<std::uint64_t>(config.patches() + 1);
  const auto width = static_cast<std::uint64_t>(6 * config.hidden_size + 2 * config.intermediate_size);
  const auto side = static_cast<std::uint64_t>(config.image_size);
  return rows * (tokens * width * element + side * side * 3 * kFloat);
}

bool is_known(const std::string& name) { return name == "logit_scale" || name.ends_with(".position_ids"); }

std::string config_of(const std::string& folder) { return (fs::path(folder) / "config.json").native(); }

}  // namespace

Plan clip_plan(const std::string& folder, c10::ScalarType dtype, std::int64_t batch) {
  const std::string config_path = config_of(folder);
  const base::Json config = base::read_json_file(config_path);
  const auto vision_config = models::clip::parse_vision_config(config, config_path);
  models::clip::TextEncoder text(models::clip::parse_text_config(config, config_path));
  models::clip::VisionEncoder vision(vision_config);
  const auto weights = io::WeightSource::open(folder);
  const std::uint64_t element = c10::elementSize(dtype);
  Plan plan = plan_of("clip", *weights, {&text, &vision}, element, is_known);
  plan.activations = tower_bytes(vision_config, batch, element);
  return plan;
}

Plan preference_plan(const std::string& folder, metrics::PreferenceModel model, c10::ScalarType dtype,
                     std::int64_t batch) {
  if (model != metrics::PreferenceModel::imagereward) return clip_plan(folder, dtype, batch);
  const std::string config_path = config_of(folder);
  const auto config = models::blip::parse_config(base::read_json_file(config_path), config_path);
  models::blip::ImageRewardNetwork network(config);
  const auto weights = io::WeightSource::open(folder);
  const std::uint64_t element = c10::elementSize(dtype);
  Plan plan = plan_of("imagereward", *weights, {&network}, element, is_known);
  plan.activations = tower_bytes(config.vision, batch, element);
  return plan;
}

}  // namespace atelier::cli
