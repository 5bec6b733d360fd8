#include "cli/train_lora.h"

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include <fmt/format.h>

#include "base/log.h"
#include "base/memory.h"
#include "cli/image_training.h"
#include "cli/output.h"
#include "cli/train_lora_output.h"
#include "io/file_system.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using base::Json;
using train::RunResult;
using train::image::ImageDataset;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string end_name(RunResult::End end) { return end == RunResult::End::was_finished ? "was_finished" : "finished"; }

class Run {
 public:
  explicit Run(const TrainLoraOptions& options) : options_(options), o_(options.train) {}

  int go() {
    check_train_lora_flags(options_);
    if (!options_.data.check && !o_.output.empty()) check_lora_output(o_);
    files_ = open_image_trainee(o_);
    if (o_.common.plan || o_.common.max_ram_bytes()) {
      const Plan plan = make_plan();
      if (o_.common.plan) {
        output_.record(plan_json(plan));
        return plan_exit_code(plan);
      }
      require_fit(plan);
    }
    if (options_.data.check) {
      const std::string sheet = o_.output.empty() ? "buckets.png" : o_.output + ".buckets.png";
      return report_data(*open_data(0), options_.data, sheet, o_.common.json, output_);
    }
    return train();
  }

 private:
  std::int64_t native_size() const { return files_.files.native_size(); }

  /// The size without buckets; with them about their area.
  train::image::Size size() const { return bucket_options(options_.data, native_size()).resolution; }

  Plan make_plan() const {
    return image_train_plan(o_, files_, size().width, size().height, o_.train.batch_size);
  }

  std::shared_ptr<ImageDataset> open_data(std::uint64_t seed) const {
    const auto defaults = source_defaults(options_.data, native_size(), o_.train.batch_size);
    return std::make_shared<ImageDataset>(
        train::image::open_sources(options_.data.data, defaults),
        dataset_options(options_.data, seed, o_.train.accumulation, files_.files.downscale(),
                        files_.files.text_encoders.front().open_tokenizer()));
  }

  std::string cache_folder() const {
    if (!options_.data.cache_latents) return "";
    return options_.data.cache_dir.empty() ? run_folder(o_) + "/cache" : options_.data.cache_dir;
  }

  int train() {
    const Clock::time_point start = Clock::now();
    const std::uint64_t seed = choose_image_seed(o_);
    const auto data = open_data(seed);
    ImageTrainee trainee = make_image_trainee(o_, files_, seed);
    o_.common.record->timings["load_s"] = seconds_since(start);
    if (o_.train.overwrite) remove_output();
    const auto write = [&](const std::string& path, std::int64_t steps) {
      write_lora_output(path, o_, files_, trainee, lora_metadata(o_, files_, *data, seed, steps));
    };
    const std::string name = fs::path(o_.output).filename().native();
    const ImageTraining training{.options = o_,
                                 .files = files_,
                                 .trainee = trainee,
                                 .data = data,
                                 .seed = seed,
                                 .cache_folder = cache_folder(),
                                 .sample_width = size().width,
                                 .sample_height = size().height,
                                 .settings = {{"tool", "sd-train-lora"}},
                                 .write_checkpoint = [&](const std::string& folder) { write(folder + "/" + name, 0); }};
    const ImageTrainingResult result = run_image_training(training);
    std::error_code ignored;
    const bool there = result.run.end == RunResult::End::was_finished && fs::exists(o_.output, ignored);
    if (!there) write(o_.output, result.run.steps);
    o_.common.record->outputs.push_back(o_.output);
    report(trainee, result, *data, seed);
    return 0;
  }

  void remove_output() const {
    io::file_system().remove(o_.output);
    std::error_code ignored;
    fs::remove_all(run_folder(o_) + "/samples", ignored);
  }

  void report(const ImageTrainee& trainee, const ImageTrainingResult& result, const ImageDataset& data,
              std::uint64_t seed) {
    if (!o_.common.json) {
      output_.text(o_.output + "\n");
      output_.end_text();
      return;
    }
    output_.record({{"output", o_.output},
                    {"run_dir", result.loop.run_folder},
                    {"method", o_.method},
                    {"end", end_name(result.run.end)},
                    {"steps", result.run.steps},
                    {"pictures", data.report().kept},
                    {"trained_parameters", trainee.trained()},
                    {"loss", result.run.loss},
                    {"seed", seed},
                    {"lr", result.loop.lr},
                    {"timings", o_.common.record->timings},
                    {"peak_rss_bytes", base::peak_rss_bytes()}});
  }

  const TrainLoraOptions& options_;
  const ImageTrainOptions& o_;
  Output output_;
  ImageTraineeFiles files_;
};

}  // namespace

int run_train_lora(const TrainLoraOptions& options) { return Run(options).go(); }

}  // namespace atelier::cli
