// sd-bench speed: how long each stage of making a picture takes, and how much memory, by number format, batch size and threads.
#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "cli/bench.h"
#include "cli/bench_measure.h"
#include "cli/bench_results.h"
#include "cli/command.h"
#include "cli/default_model.h"
#include "cli/image_memory.h"
#include "cli/output.h"
#include "cli/validators.h"
#include "metrics/quantiles.h"
#include "report/table.h"
#include "report/text.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

struct SpeedOptions {
  CommonOptions common;
  std::string prompt = "a red circle on a blue background", sampler;
  std::vector<std::string> dtypes, batch_sizes, thread_counts;
  std::int64_t width = 0, height = 0, steps = 20, warmup = 1, runs = 5;
  double cfg_scale = 7.5;
};

void bind_speed(CLI::App& app, SpeedOptions& o) {
  const std::string varied = "What is varied", fixed = "What is made";
  add_words(app, "--dtypes", o.dtypes, "DTYPE", "Number formats of the weights (left out, auto)")
      ->check(one_of({"auto", "fp32", "bf16", "fp16"}))
      ->group(varied);
  add_words(app, "--batch-sizes", o.batch_sizes, "N", "Pictures computed at once (left out, 1)")
      ->check(whole_in_range(1, 64))
      ->group(varied);
  add_words(app, "--thread-counts", o.thread_counts, "N", "CPU threads (left out, --threads)")
      ->check(whole_in_range(1, 1024))
      ->group(varied);
  app.add_option("-p,--prompt", o.prompt, "What the pictures show")->type_name("TEXT")->group(fixed);
  app.add_option("--sampler", o.sampler, "Sampler (left out, the model's own)")->type_name("NAME")->group(fixed);
  app.add_option("--steps", o.steps, "Denoising steps")->check(whole_in_range(1, 10000))->group(fixed);
  app.add_option("--cfg-scale", o.cfg_scale, "Guidance; 1 or less: none")->check(in_range(0, 1000))->group(fixed);
  app.add_option("-W,--width", o.width, "Width in pixels (left out, what the model was trained on)")
      ->check(whole_in_range(8, 1 << 15))
      ->group(fixed)
      ->default_str("");
  app.add_option("-H,--height", o.height, "Height in pixels (left out, likewise)")
      ->check(whole_in_range(8, 1 << 15))
      ->group(fixed)
      ->default_str("");
  app.add_option("--warmup", o.warmup, "Batches before those that are timed")
      ->check(whole_in_range(0, 1000))
      ->group(fixed);
  app.add_option("--runs", o.runs, "Batches that are timed")->check(whole_in_range(1, 100000))->group(fixed);
  add_command_options(app, o.common, "sd-bench speed --model sd15/ --dtypes fp32 bf16 --batch-sizes 1 4 --json",
                      {.dtype = false, .batches = false, .completions = false});
}

std::vector<std::string> or_else(const std::vector<std::string>& given, const std::string& fallback) {
  return given.empty() ? std::vector{fallback} : given;
}

class Speed {
 public:
  explicit Speed(const SpeedOptions& options) : options_(options), seed_(options.common.seed.value_or(0)) {}

  int go() {
    path_ = model_or_default(options_.common.model, "tiny-sd");
    const auto dtypes = or_else(options_.dtypes, "auto");
    if (options_.common.plan || options_.common.max_ram_bytes()) {
      const int code = plan(dtypes);
      if (options_.common.plan) return code;
    }
    sha256_ = model_sha256(open("auto"));
    for (const std::string& dtype : dtypes) measure_dtype(dtype);
    if (!options_.common.json) output_.text(report::to_markdown(table_));
    if (failed_ == 0) return 0;
    base::log_warning(fmt::format("{} of {} measurements failed", failed_, failed_ + done_));
    return static_cast<int>(ExitCode::some_failed);
  }

 private:
  pipelines::ImageModelFiles open(const std::string& dtype) const {
    return pipelines::ImageModelFiles::open(path_, {options_.common.device, dtype});
  }

  std::int64_t largest_batch() const {
    std::int64_t largest = 1;
    for (const std::string& size : options_.batch_sizes) largest = std::max<std::int64_t>(largest, std::stoll(size));
    return largest;
  }

  int plan(const std::vector<std::string>& dtypes) {
    int code = 0;
    for (const std::string& dtype : dtypes) {
      const auto files = open(dtype);
      pipelines::ImagePlanRequest request;
      request.width = options_.width > 0 ? options_.width : files.native_size();
      request.height = options_.height > 0 ? options_.height : files.native_size();
      request.batch = largest_batch();
      request.finished_width = request.width, request.finished_height = request.height;
      Plan plan = image_plan(files, request);
      plan.max_ram = options_.common.max_ram_bytes();
      if (!options_.common.plan) require_fit(plan);
      if (options_.common.plan) output_.record(plan_json(plan));
      code = std::max(code, plan_exit_code(plan));
    }
    return code;
  }

  void measure_dtype(const std::string& dtype) {
    for (const std::string& threads : or_else(options_.thread_counts, fmt::format("{}", options_.common.threads))) {
      pipelines::set_threads(std::stoi(threads));
      MeasuredModel model(open(dtype));
      note_model(model.files());
      model.load();
      for (const std::string& batch : or_else(options_.batch_sizes, "1")) measure(model, dtype, std::stoll(batch));
    }
  }

  void note_model(const pipelines::ImageModelFiles& files) const {
    Manifest& record = *options_.common.record;
    record.model_path = path_;
    record.device = files.device.str();
    record.model_files = files.config_files;
    for (const auto& file : files.weight_files()) record.model_files.push_back(file.path);
    record.seeds = {seed_};
  }

  ImageOptions image_options(std::int64_t batch) const {
    ImageOptions o;
    o.prompt = options_.prompt;
    o.sampler = options_.sampler;
    o.steps = options_.steps;
    o.cfg_scale = options_.cfg_scale;
    o.width = options_.width, o.height = options_.height;
    o.count = o.batch_size = batch;
    o.common.seed = seed_;
    return o;
  }

  /// One line of the table. What cannot be done (a batch too large for the memory) costs itself alone; a wrong flag ends the run.
  void measure(MeasuredModel& model, const std::string& dtype, std::int64_t batch) {
    const std::string what = fmt::format("{}, batch {}, {} threads", dtype, batch, threads_in_use());
    try {
      base::Progress progress(what, static_cast<std::uint64_t>(options_.warmup + options_.runs), "batches");
      std::vector<Measurement> runs;
      for (std::int64_t i = 0; i < options_.warmup + options_.runs; ++i) {
        Measurement m = model.make(image_options(batch));
        if (i >= options_.warmup) runs.push_back(std::move(m));
        progress.update(static_cast<std::uint64_t>(i + 1));
      }
      print(describe(model, runs, batch));
      ++done_;
    } catch (const base::Stopped&) {
      throw;
    } catch (const std::exception& error) {
      const Failure failure = describe_failure(error);
      if (failure.code != ExitCode::out_of_memory && failure.code != ExitCode::condition) throw;
      base::log_warning(fmt::format("{}: {}", what, failure.message));
      if (options_.common.json)
        output_.record({{"dtype", dtype},
                        {"batch_size", batch},
                        {"threads", threads_in_use()},
                        {"error", failure.message},
                        {"code", static_cast<int>(failure.code)}});
      ++failed_;
    }
  }

  Json describe(const MeasuredModel& model, const std::vector<Measurement>& runs, std::int64_t batch) const {
    std::vector<double> text, steps, vae, total, joules;
    std::uint64_t allocator = 0, process = 0;
    for (const Measurement& m : runs) {
      text.push_back(m.text_s), vae.push_back(m.vae_s), total.push_back(m.total_s);
      steps.insert(steps.end(), m.steps_s.begin(), m.steps_s.end());
      allocator = std::max(allocator, m.allocator_bytes), process = std::max(process, m.process_bytes);
      if (m.joules) joules.push_back(*m.joules / static_cast<double>(batch));
    }
    const MadePicture& made = runs.front().pictures.front();
    const std::string dtype = model.files().dtype == at::kFloat  ? "fp32"
                              : model.files().dtype == at::kHalf ? "fp16"
                                                                 : "bf16";
    Json record = {{"model", path_},
                   {"model_sha256", sha256_},
                   {"family", pipelines::family_name(model.files().family)},
                   {"device", model.files().device.str()},
                   {"dtype", dtype},
                   {"threads", threads_in_use()},
                   {"batch_size", batch},
                   {"width", made.picture.width},
                   {"height", made.picture.height},
                   {"sampler", schedulers::name_of(runs.front().sampler.sampler)},
                   {"schedule", schedulers::name_of(runs.front().sampler.schedule)},
                   {"steps", options_.steps},
                   {"evaluations", made.evaluations},
                   {"cfg_scale", options_.cfg_scale},
                   {"warmups", options_.warmup},
                   {"runs", runs.size()},
                   {"seed", seed_},
                   {"prompt_sha256", base::sha256_hex(options_.prompt)}};
    record["timings"] = {{"load_s", spread_record({model.load_seconds()})},
                         {"text_s", spread_record(text)},
                         {"step_s", spread_record(steps)},
                         {"vae_s", spread_record(vae)},
                         {"batch_s", spread_record(total)}};
    record["pictures_per_s"] = static_cast<double>(batch) / metrics::quantile(total, 0.5);
    record["memory"] = {{"allocator_bytes", allocator}, {"process_bytes", process}};
    record["energy"] =
        joules.empty() ? Json(nullptr) : Json{{"picture_j", metrics::quantile(joules, 0.5)}, {"source", "rapl"}};
    record["version"] = ATELIER_VERSION;
    record["machine"] = machine_;
    return record;
  }

  void print(const Json& record) {
    if (options_.common.json) return output_.record(record);
    const auto time = [&](const char* stage) {
      const Json& spread = record["timings"][stage];
      return fmt::format("{} / {}", report::number(spread["median"].get<double>()),
                         report::number(spread["p95"].get<double>()));
    };
    const auto bytes = [&](const char* peak) { return report::bytes(record["memory"][peak].get<double>()); };
    table_.rows.push_back(
        {record["dtype"].get<std::string>(), record["batch_size"].dump(), record["threads"].dump(), time("load_s"),
         time("text_s"), time("step_s"), time("vae_s"), time("batch_s"),
         report::number(record["pictures_per_s"].get<double>()), bytes("allocator_bytes"), bytes("process_bytes"),
         record["energy"].is_null() ? "-" : report::number(record["energy"]["picture_j"].get<double>())});
  }

  const SpeedOptions& options_;
  std::uint64_t seed_;
  std::string path_, sha256_;
  Json machine_ = machine_record();
  Output output_;
  report::Table table_{{{"Dtype"},
                        {"Batch", true},
                        {"Threads", true},
                        {"Load s", true},
                        {"Text s", true},
                        {"Step s", true},
                        {"VAE s", true},
                        {"Batch s", true},
                        {"Pictures / s", true},
                        {"Tensors", true},
                        {"Process", true},
                        {"Joules / picture", true}},
                       {}};
  int done_ = 0, failed_ = 0;
};

int run_speed(const SpeedOptions& options) { return Speed(options).go(); }

}  // namespace

BenchCommand speed_command() {
  return bench_command<SpeedOptions>(
      "speed", "Time each stage of making a picture (median / p95), and its peak memory.", bind_speed, run_speed);
}

}  // namespace atelier::cli
