// The commands of sd-bench that measure pictures which are there: fid, kid, lpips, diversity, clip-score, preference.
#include <filesystem>
#include <functional>
#include <optional>

#include <fmt/format.h>

#include "base/error.h"
#include "cli/bench.h"
#include "cli/bench_figures.h"
#include "cli/bench_plan.h"
#include "cli/bench_prompts.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/validators.h"
#include "metrics/metrics.h"
#include "pipelines/text_model.h"

namespace atelier::cli {
namespace {

struct MetricOptions {
  CommonOptions common;
  std::string first, second;  ///< the positional arguments
  std::string weights, weights_sha256, prompts, cache, resize = "pytorch-fid", predictor = "pickscore";
  std::int64_t batch_size = 0, bootstrap = 1000, subsets = 100, subset_size = 1000, max_pairs = 10000;
};

const std::string kGroup = "Measurement";

void add_common(CLI::App& app, MetricOptions& o, const std::string& example, bool dtype = false) {
  add_command_options(app, o.common, example, {.model = false, .dtype = dtype, .batches = false, .completions = false});
  app.add_option("--weights-sha256", o.weights_sha256, "Hash that the weights must have; others are exit code 65")
      ->type_name("HEX")
      ->group(kGroup);
  app.add_option("--batch-size", o.batch_size,
                 "Pictures computed at once; it never changes the figure (left out, 32 or so)")
      ->check(whole_in_range(1, 4096))
      ->group(kGroup)
      ->default_str("");
  app.add_option("--bootstrap", o.bootstrap, "Samples that the 95 % interval is made of; 0: no interval")
      ->check(whole_in_range(0, 1000000))
      ->group(kGroup);
}

void add_weights(CLI::App& app, MetricOptions& o, const std::string& flag, const std::string& type,
                 const std::string& text) {
  app.add_option(flag, o.weights, text)->type_name(type)->required()->group(kGroup);
}

void add_folder(CLI::App& app, const std::string& name, std::string& target, const std::string& type,
                const std::string& text) {
  app.add_option(name, target, text)->type_name(type)->required()->group("Arguments");
}

void add_inception(CLI::App& app, MetricOptions& o) {
  add_folder(app, "REAL", o.first, "DIR",
             "Folder of pictures to compare with, or their features as --cache keeps them");
  add_folder(app, "FAKE", o.second, "DIR", "Folder of the pictures that are judged, or their features");
  add_weights(app, o, "--inception", "FILE",
              "Inception's weights under pytorch-fid's names (scripts/convert-metrics makes them)");
  app.add_option("--resize", o.resize, "How pictures come to 299 pixels: as in pytorch-fid, or in clean-fid")
      ->check(one_of({"pytorch-fid", "clean-fid"}))
      ->group(kGroup);
  app.add_option("--cache", o.cache, "Folder that keeps features, by the hashes of pictures and weights")
      ->type_name("DIR")
      ->group(kGroup);
}

void bind_fid(CLI::App& app, MetricOptions& o) {
  add_inception(app, o);
  add_common(app, o, "sd-bench fid real/ made/ --inception inception.safetensors --json");
}

void bind_kid(CLI::App& app, MetricOptions& o) {
  add_inception(app, o);
  app.add_option("--subsets", o.subsets, "Random subsets that the estimate is averaged over")
      ->check(whole_in_range(1, 1000000))
      ->group(kGroup);
  app.add_option("--subset-size", o.subset_size, "Pictures of each side in a subset")
      ->check(whole_in_range(2, 1000000))
      ->group(kGroup);
  add_common(app, o, "sd-bench kid real/ made/ --inception inception.safetensors --subset-size 100 --json");
}

void bind_lpips(CLI::App& app, MetricOptions& o) {
  add_folder(app, "A", o.first, "PATH", "A picture, or a folder of pictures");
  add_folder(app, "B", o.second, "PATH", "Another of the same size, or a folder with pictures of the same names");
  add_weights(app, o, "--weights", "FILE",
              "AlexNet, VGG16 or SqueezeNet with LPIPS's linear layers (scripts/convert-metrics makes it)");
  add_common(app, o, "sd-bench lpips before.png after.png --weights lpips-alex.safetensors --json");
}

void bind_diversity(CLI::App& app, MetricOptions& o) {
  add_folder(app, "FOLDER", o.first, "DIR", "Pictures of one size");
  add_weights(app, o, "--weights", "FILE", "AlexNet, VGG16 or SqueezeNet with LPIPS's linear layers");
  app.add_option("--max-pairs", o.max_pairs, "Pairs that are compared; where there are more, that many are drawn")
      ->check(whole_in_range(1, 100000000))
      ->group(kGroup);
  add_common(app, o, "sd-bench diversity made/ --weights lpips-alex.safetensors --json");
}

void add_captioned(CLI::App& app, MetricOptions& o) {
  add_folder(app, "FOLDER", o.first, "DIR", "The pictures");
  app.add_option("--prompts", o.prompts,
                 "What the pictures show, a line for each in the order of their names, or a .jsonl file of {\"file\", "
                 "\"prompt\"}")
      ->type_name("FILE")
      ->required()
      ->group(kGroup);
}

void bind_clip_score(CLI::App& app, MetricOptions& o) {
  add_captioned(app, o);
  add_weights(app, o, "--clip", "DIR",
              "CLIPModel as transformers saves it, with tokenizer and preprocessor_config.json");
  add_common(app, o, "sd-bench clip-score made/ --prompts prompts.txt --clip clip-vit-large-patch14/ --json", true);
}

void bind_preference(CLI::App& app, MetricOptions& o) {
  add_captioned(app, o);
  add_weights(app, o, "--weights", "DIR",
              "PickScore or HPSv2 as a CLIPModel of transformers, or ImageReward (scripts/convert-metrics makes the "
              "latter two)");
  app.add_option("--predictor", o.predictor, "Which of them it is")
      ->check(one_of({"pickscore", "hpsv2", "imagereward"}))
      ->group(kGroup);
  add_common(app, o,
             "sd-bench preference made/ --prompts prompts.txt --weights PickScore_v1/ --predictor pickscore --json",
             true);
}

/// Where to compute; also sets the threads and notes both for --manifest.
at::Device place(const MetricOptions& o) {
  pipelines::set_threads(o.common.threads);
  const at::Device device = pipelines::resolve_device(o.common.device);
  Manifest& record = *o.common.record;
  record.device = device.str();
  record.model_path = o.weights;
  record.model_files = {o.weights};
  return device;
}

metrics::FolderOptions folder_options(const MetricOptions& o) {
  metrics::FolderOptions options;
  options.batch_size = o.batch_size;
  options.bootstrap.resamples = o.bootstrap;
  options.bootstrap.seed = o.common.seed.value_or(0);
  options.progress = "pictures";
  return options;
}

/// --plan and --max-ram: the exit code, where nothing is left to be done.
std::optional<int> planned(const MetricOptions& o, const std::function<Plan()>& make) {
  if (!o.common.plan && !o.common.max_ram_bytes()) return std::nullopt;
  Plan plan = make();
  plan.max_ram = o.common.max_ram_bytes();
  if (!o.common.plan) return require_fit(plan), std::nullopt;
  Output().record(plan_json(plan));
  return plan_exit_code(plan);
}

/// Prints the figure. 3 where files had to be left out: the figure is not of everything that was asked for.
int print(const metrics::Figure& figure, const MetricOptions& o) {
  warn_unreadable(figure);
  Output output;
  if (o.common.json)
    output.record(figure_record(figure));
  else
    output.text(figure_text(figure) + "\n");
  return figure.unreadable.empty() ? 0 : static_cast<int>(base::ExitCode::some_failed);
}

/// What `compute` gives; of errors in the data that do not say which data, with the path put before them.
template <class Compute>
auto naming(const std::string& path, Compute compute) {
  try {
    return compute();
  } catch (const base::Error& error) {
    if (error.code() != base::ExitCode::data || std::string(error.what()).find(path) != std::string::npos) throw;
    throw base::Error(error.code(), path + ": " + error.what(), error.hint());
  }
}

struct Features {
  metrics::InceptionFeatures real, fake;
};

Features features(const MetricOptions& o) {
  for (const std::string* source : {&o.first, &o.second})  // before minutes are spent on the first
    if (!std::filesystem::is_regular_file(*source)) metrics::list_pictures(*source);
  const auto network = naming(o.weights, [&] { return metrics::Inception::open(o.weights, place(o)); });
  require_hash(o.weights_sha256, network.weights_sha256(), o.weights);
  const auto variant = *metrics::parse_inception_variant(o.resize);
  const auto options = folder_options(o);
  const auto of = [&](const std::string& source) {
    return naming(source, [&] { return metrics::features_of(source, network, variant, options, o.cache); });
  };
  return {of(o.first), of(o.second)};
}

Plan features_plan(const MetricOptions& o) { return inception_plan(o.weights, o.first, o.second, o.batch_size); }

int run_fid(const MetricOptions& o) {
  if (const auto code = planned(o, [&] { return features_plan(o); })) return *code;
  const Features both = features(o);
  return print(metrics::fid(both.real, both.fake, folder_options(o)), o);
}

int run_kid(const MetricOptions& o) {
  if (const auto code = planned(o, [&] { return features_plan(o); })) return *code;
  const Features both = features(o);
  metrics::KidOptions options;
  options.subsets = o.subsets;
  options.subset_size = o.subset_size;
  if (o.common.seed) options.seed = static_cast<std::uint32_t>(*o.common.seed);
  return print(metrics::kid(both.real, both.fake, folder_options(o), options), o);
}

metrics::Lpips open_lpips(const MetricOptions& o) {
  auto network = naming(o.weights, [&] { return metrics::Lpips::open(o.weights, place(o)); });
  require_hash(o.weights_sha256, network.weights_sha256(), o.weights);
  return network;
}

int run_lpips(const MetricOptions& o) {
  if (const auto code = planned(o, [&] { return lpips_plan(o.weights, o.first, false, o.batch_size); })) return *code;
  return print(metrics::lpips(o.first, o.second, open_lpips(o), folder_options(o)), o);
}

int run_diversity(const MetricOptions& o) {
  if (const auto code = planned(o, [&] { return lpips_plan(o.weights, o.first, true, o.batch_size); })) return *code;
  const metrics::PictureSet set = metrics::list_pictures(o.first);
  const auto network = open_lpips(o);
  return print(naming(o.first, [&] { return metrics::diversity(set, network, o.max_pairs, folder_options(o)); }), o);
}

at::ScalarType clip_dtype(const std::string& name) {
  return name == "bf16" ? at::kBFloat16 : name == "fp16" ? at::kHalf : at::kFloat;
}

/// Where to compute; notes the folder's files for --manifest.
at::Device place_clip(const MetricOptions& o) {
  const at::Device device = place(o);
  o.common.record->model_files = {o.weights + "/model.safetensors", o.weights + "/config.json"};
  return device;
}

int run_clip_score(const MetricOptions& o) {
  if (const auto code = planned(o, [&] { return clip_plan(o.weights, clip_dtype(o.common.dtype), o.batch_size); }))
    return *code;
  const auto pictures = with_prompts(o.first, o.prompts);
  const auto scorer = metrics::ClipScorer::open(o.weights, place_clip(o), clip_dtype(o.common.dtype));
  require_hash(o.weights_sha256, scorer.weights_sha256(), o.weights);
  return print(metrics::clip_score(pictures, scorer, folder_options(o)), o);
}

int run_preference(const MetricOptions& o) {
  const auto kind = *metrics::parse_preference_model(o.predictor);
  const auto plan = [&] { return preference_plan(o.weights, kind, clip_dtype(o.common.dtype), o.batch_size); };
  if (const auto code = planned(o, plan)) return *code;
  const auto pictures = with_prompts(o.first, o.prompts);
  const auto model = metrics::Preference::open(o.weights, kind, place_clip(o), clip_dtype(o.common.dtype));
  require_hash(o.weights_sha256, model.weights_sha256(), o.weights);
  return print(metrics::preference(pictures, model, folder_options(o)), o);
}

}  // namespace

std::vector<BenchCommand> metric_commands() {
  return {
      bench_command<MetricOptions>("fid", "Fréchet Inception distance of two folders of pictures.", bind_fid, run_fid),
      bench_command<MetricOptions>("kid", "Kernel Inception distance of two folders of pictures.", bind_kid, run_kid),
      bench_command<MetricOptions>("lpips", "Perceptual distance of two pictures, or of pairs in two folders.",
                                   bind_lpips, run_lpips),
      bench_command<MetricOptions>("diversity", "Mean perceptual distance between a folder's pictures.", bind_diversity,
                                   run_diversity),
      bench_command<MetricOptions>("clip-score", "How well pictures show what their prompts say, by CLIP.",
                                   bind_clip_score, run_clip_score),
      bench_command<MetricOptions>("preference", "How well people would like the pictures, as a model predicts it.",
                                   bind_preference, run_preference)};
}

}  // namespace atelier::cli
