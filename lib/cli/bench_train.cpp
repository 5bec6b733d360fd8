// sd-bench train: how fast a model learns, with how much memory, and what: samples per second, peaks, and the loss on the same noised
// pictures over the steps.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "base/log.h"
#include "base/stop.h"
#include "cli/bench.h"
#include "cli/bench_measure.h"
#include "cli/bench_results.h"
#include "cli/bench_train_options.h"
#include "cli/bench_train_report.h"
#include "cli/bench_training.h"
#include "cli/image_training.h"
#include "cli/output.h"
#include "io/file_system.h"
#include "metrics/memory.h"
#include "metrics/quantiles.h"
#include "schedulers/config.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;
using train::image::ImageDataset;

const char* name_of(train::Precision precision) {
  switch (precision) {
    case train::Precision::fp32: return "fp32";
    case train::Precision::bf16: return "bf16";
    case train::Precision::fp16: return "fp16";
  }
  return "";
}

class TrainBench {
 public:
  explicit TrainBench(const TrainBenchOptions& options)
      : options_(options), common_(options.train.common), seed_(common_.seed.value_or(0)) {}

  int go() {
    const auto rows = train_bench_rows(options_);
    ImageDataOptions data = options_.data;
    data.cache_latents = !data.cache_dir.empty();
    check_data_flags(data);
    if (common_.plan || common_.max_ram_bytes()) {
      const int code = plan(rows);
      if (common_.plan) return code;
    }
    common_.record->seeds = {seed_};
    describe_model();
    if (!options_.output.empty()) io::file_system().create_folders(options_.output);
    try {
      for (const TrainBenchRow& row : rows) add_row(row);
    } catch (const base::Stopped&) {
      if (!report_.rows.empty()) finish();  // what was measured stands
      throw;
    }
    return finish();
  }

 private:
  train::image::Size size(const ImageTraineeFiles& files) const {
    return bucket_options(options_.data, files.files.native_size()).resolution;
  }

  /// The model's headers; in --manifest it stands once, however many rows train it.
  ImageTraineeFiles open(const ImageTrainOptions& row) const {
    common_.record->model_files.clear();
    return open_image_trainee(row);
  }

  int plan(const std::vector<TrainBenchRow>& rows) {
    int code = 0;
    for (const TrainBenchRow& row : rows) {
      const ImageTraineeFiles files = open(row.train);
      const Plan plan =
          image_train_plan(row.train, files, size(files).width, size(files).height, row.train.train.batch_size);
      if (!common_.plan) require_fit(plan);
      if (common_.plan) output_.record(plan_json(plan));
      code = std::max(code, plan_exit_code(plan));
    }
    return code;
  }

  /// What does not differ between rows, and is wrong for all of them or for none.
  void describe_model() {
    const ImageTraineeFiles files = open(options_.train);
    const auto data = open_data(files, options_.data.data, 1);
    if (!options_.eval_data.empty()) open_data(files, options_.eval_data, 1);
    report_.settings = {{"model", common_.record->model_path},
                        {"model_sha256", model_sha256(files.files)},
                        {"family", pipelines::family_name(files.files.family)},
                        {"data_sha256", data->sha256()},
                        {"pictures", data->report().kept},
                        {"width", size(files).width},
                        {"height", size(files).height},
                        {"steps", options_.steps},
                        {"warmups", options_.warmups()},
                        {"pairs", options_.pairs},
                        {"grad_accum", options_.train.train.accumulation},
                        {"grad_checkpointing", options_.train.train.checkpointing},
                        {"rank", options_.train.rank},
                        {"unet_lr", options_.train.unet_lr},
                        {"seed", seed_},
                        {"device", files.files.device.str()},
                        {"threads", threads_in_use()},
                        {"version", ATELIER_VERSION},
                        {"machine", machine_record()}};
  }

  std::shared_ptr<ImageDataset> open_data(const ImageTraineeFiles& files, const std::string& path,
                                          std::int64_t batch) const {
    const auto defaults = source_defaults(options_.data, files.files.native_size(), batch);
    return std::make_shared<ImageDataset>(
        train::image::open_sources(path, defaults),
        dataset_options(options_.data, seed_, options_.train.train.accumulation, files.files.downscale(),
                        files.files.text_encoders.front().open_tokenizer()));
  }

  /// A row that cannot be trained (no memory, a format that the device lacks, NaN) costs itself alone.
  void add_row(const TrainBenchRow& row) {
    Json record = {{"id", row.id},
                   {"method", row.train.method},
                   {"precision", row.train.train.precision},
                   {"optimizer", row.train.train.optimizer},
                   {"batch_size", row.train.train.batch_size},
                   {"status", "ok"}};
    try {
      measure(row, record);
    } catch (const base::Stopped&) {
      throw;
    } catch (const std::exception& error) {
      const Failure failure = describe_failure(error);
      if (failure.code == ExitCode::cannot_create || failure.code == ExitCode::io) throw;
      base::log_warning(fmt::format("{}: {}", row.label, failure.message));
      record["status"] = "failed";
      record["error"] = failure.message;
      ++failed_;
    }
    for (const auto& [key, value] : report_.settings.items()) record[key] = value;
    if (common_.json) output_.record(record);
    report_.rows.push_back(std::move(record));
    report_.labels.push_back(row.label);
  }

  void measure(const TrainBenchRow& row, Json& record) {
    const ImageTraineeFiles files = open(row.train);
    const auto data = open_data(files, options_.data.data, row.train.train.batch_size);
    metrics::MemoryMeter memory(files.files.device);  // before the model: its tensors count
    ImageTrainee trainee = make_image_trainee(row.train, files, seed_);
    TrainingMeasurement run;
    const ImageTraining training{.options = row.train,
                                 .files = files,
                                 .trainee = trainee,
                                 .data = data,
                                 .seed = seed_,
                                 .cache_folder = options_.data.cache_dir,
                                 .settings = {},
                                 .write_checkpoint = {},
                                 .pairs = make_pairs(files, *trainee.model),
                                 .eval_every = options_.eval_every,
                                 .run = [&](train::Task& task, const train::LoopOptions& loop) {
                                   memory.start();
                                   run = measure_training(task, loop);
                                   return train::RunResult{};
                                 }};
    run_image_training(training);
    const std::vector<double> timed(run.seconds.begin() + options_.warmups(), run.seconds.end());
    const double samples = static_cast<double>(run.samples) / static_cast<double>(run.seconds.size());  // of a step
    record["precision"] = name_of(files.precision);
    record["trained_parameters"] = trainee.trained();
    record["samples_per_s"] = samples / metrics::quantile(timed, 0.5);
    record["timings"] = {{"load_s", spread_record({trainee.model->load_seconds})}, {"step_s", spread_record(timed)}};
    record["memory"] = {{"allocator_bytes", memory.allocator_peak()}, {"process_bytes", memory.process_peak()}};
    record["losses"] = Json::array();
    double seconds = 0;
    std::int64_t step = 0;
    for (const auto& [taken, loss] : run.losses) {
      for (; step < taken; ++step) seconds += run.seconds[static_cast<std::size_t>(step)];
      record["losses"].push_back({{"step", taken}, {"train_s", seconds}, {"loss", loss}});
    }
  }

  std::vector<train::image::FixedPair> make_pairs(const ImageTraineeFiles& files,
                                                  const pipelines::ImageModel& model) const {
    if (options_.pairs == 0) return {};
    const std::string& path = options_.eval_data.empty() ? options_.data.data : options_.eval_data;
    const auto scheduler = schedulers::parse_config(model.scheduler_json, model.scheduler_path, schedulers::Kind::ddpm);
    return train::image::fixed_pairs(*open_data(files, path, 1), *model.vae, scheduler.num_train_timesteps,
                                     options_.pairs, seed_);
  }

  int finish() {
    if (!options_.output.empty())
      for (const std::string& path : write_train_reports(report_, options_.output))
        common_.record->outputs.push_back(path);
    if (!common_.json) {
      output_.text(report::to_markdown(train_table(report_)));
      if (!options_.output.empty()) output_.text("\n" + options_.output + "/report.html\n");
    }
    if (failed_ == 0) return 0;
    base::log_warning(fmt::format("{} of {} rows failed", failed_, report_.rows.size()));
    return static_cast<int>(ExitCode::some_failed);
  }

  const TrainBenchOptions& options_;
  const CommonOptions& common_;
  std::uint64_t seed_;
  Output output_;
  TrainReport report_;
  std::size_t failed_ = 0;
};

int run_train_bench(const TrainBenchOptions& options) { return TrainBench(options).go(); }

}  // namespace

BenchCommand train_command() {
  return bench_command<TrainBenchOptions>(
      "train", "Time steps of training, with their peak memory, and measure what they teach.", define_train_bench_flags,
      run_train_bench);
}

}  // namespace atelier::cli
