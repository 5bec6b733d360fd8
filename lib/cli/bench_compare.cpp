// sd-bench compare: rows of a grid -> pictures, each timed -> figures -> reports and gates.
#include <algorithm>
#include <map>
#include <tuple>

#include <fmt/format.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "cli/bench.h"
#include "cli/bench_compare_options.h"
#include "cli/bench_figures.h"
#include "cli/bench_gate.h"
#include "cli/bench_measure.h"
#include "cli/bench_prompts.h"
#include "cli/bench_report.h"
#include "cli/bench_results.h"
#include "cli/bench_store.h"
#include "cli/default_model.h"
#include "cli/image_loras.h"
#include "cli/image_memory.h"
#include "cli/image_metadata.h"
#include "cli/output.h"
#include "cli/scaled_path.h"
#include "pipelines/architecture.h"
#include "report/text.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

/// A picture that every row makes.
struct Task {
  std::string prompt;
  std::uint64_t seed = 0;
};

/// A model of the grid, or why it cannot be used.
struct GridModel {
  std::string sha256, error;
  Json architecture;
  ExitCode code = ExitCode::ok;
};

class Comparison {
 public:
  explicit Comparison(const CompareOptions& options) : options_(options) {}

  int go() {
    prepare();
    if (options_.common.plan) return print_plans();
    require_memory();
    store_.emplace(options_.output, options_.overwrite);
    QualityOptions quality = options_.quality;
    quality.seed = options_.common.seed.value_or(0);
    quality_.emplace(quality, device_, *store_);
    open_models();
    report_.folder = options_.output;
    try {
      for (const GridRow& row : rows_) add_row(row);
    } catch (const base::Stopped&) {
      stop();
    }
    return finish();
  }

 private:
  // ---- before anything is computed ----

  void prepare() {
    for (const std::string& text : options_.fail_if) gates_.push_back(parse_gate(text));
    options_.quality.check();
    check_gates();
    GridAxes axes = options_.axes;
    if (!options_.grid.empty()) read_grid(options_.grid, axes);
    if (axes.models.empty()) axes.models = {model_or_default("", "tiny-sd")};
    rows_ = make_rows(axes);
    if (!options_.baseline.empty()) baseline_ = read_results(options_.baseline);
    const auto prompts = read_prompts(options_.prompts);
    prompts_sha256_ = base::sha256_file(options_.prompts);
    const std::uint64_t first = options_.common.seed.value_or(0);
    for (const BenchPrompt& prompt : prompts)
      for (std::int64_t k = 0; k < options_.count; ++k) {
        const std::uint64_t place = first + tasks_.size();
        tasks_.push_back({prompt.text, prompt.seed ? *prompt.seed + static_cast<std::uint64_t>(k) : place});
      }
    prompt_count_ = static_cast<std::int64_t>(prompts.size());
    pipelines::set_threads(options_.common.threads);
    device_ = pipelines::resolve_device(options_.common.device);
    machine_ = machine_record();
    Manifest& record = *options_.common.record;
    record.device = device_.str();
    for (const Task& task : tasks_) record.seeds.push_back(task.seed);
  }

  /// A gate on what will not be measured could never fail.
  void check_gates() const {
    const auto metrics = options_.quality.metrics();
    for (const Gate& gate : gates_) {
      if (gate.relative && options_.baseline.empty())
        throw Error(ExitCode::usage, fmt::format("--fail-if \"{}\" needs --baseline", gate.text));
      const bool figure = gate.quantity.find('_') == std::string::npos;  // times and peaks bear their unit
      if (figure && std::ranges::find(metrics, gate.quantity) == metrics.end())
        throw Error(ExitCode::usage,
                    fmt::format("--fail-if \"{}\": {} is not measured in this run", gate.text, gate.quantity),
                    "fid and kid need --reference and --inception, clip-score --clip, preference --preference, "
                    "diversity --lpips");
    }
  }

  pipelines::ImageModelFiles open(const std::string& path, const std::string& dtype) const {
    return pipelines::ImageModelFiles::open(path, {options_.common.device, dtype});
  }

  std::pair<std::int64_t, std::int64_t> size_of(const pipelines::ImageModelFiles& files) const {
    const std::int64_t native = files.native_size();
    return {options_.width > 0 ? options_.width : native, options_.height > 0 ? options_.height : native};
  }

  /// What each model in each number format would need.
  std::vector<std::pair<std::string, Plan>> plans() const {
    std::map<std::string, Plan> plans;
    std::vector<std::string> order;
    for (const GridRow& row : rows_) {
      const std::string name = row.model_name + "/" + row.dtype;
      if (plans.contains(name)) continue;
      const auto files = open(row.model, row.dtype);
      pipelines::ImagePlanRequest request;
      std::tie(request.width, request.height) = size_of(files);
      request.finished_width = request.width, request.finished_height = request.height;
      plans[name] = image_plan(files, request);
      plans[name].max_ram = options_.common.max_ram_bytes();
      order.push_back(name);
    }
    std::vector<std::pair<std::string, Plan>> all;
    for (const std::string& name : order) all.emplace_back(name, plans[name]);
    return all;
  }

  int print_plans() {
    int code = 0;
    for (const auto& [name, plan] : plans()) {
      output_.record(plan_json(plan));
      code = std::max(code, plan_exit_code(plan));
    }
    return code;
  }

  void require_memory() const {
    if (!options_.common.max_ram_bytes()) return;
    for (const auto& [name, plan] : plans()) require_fit(plan);
  }

  void open_models() {
    report_.models = Json::object();
    for (const GridRow& row : rows_) {
      if (models_.contains(row.model)) continue;
      GridModel& model = models_[row.model];
      Json& said = report_.models[row.model_name] = {{"path", row.model}};
      try {
        const auto files = open(row.model, "auto");
        model.architecture = pipelines::describe_architecture(files);
        model.sha256 = model_sha256(files);
        said["sha256"] = model.sha256;
        said["architecture"] = model.architecture;
        for (const auto& file : files.weight_files()) options_.common.record->model_files.push_back(file.path);
      } catch (const base::Stopped&) {
        throw;
      } catch (const std::exception& error) {
        const Failure failure = describe_failure(error);
        model.error = failure.message, model.code = failure.code;
        said["error"] = failure.message;
      }
    }
    options_.common.record->model_path = rows_.front().model;
  }

  // ---- one row ----

  /// The pictures of a row, and what its record will say; a row that cannot run costs itself alone.
  void add_row(const GridRow& row) {
    Json record = {{"id", row.id()},         {"model", row.model_name}, {"lora", row.lora_name}, {"dtype", row.dtype},
                   {"sampler", row.sampler}, {"schedule", nullptr},     {"steps", row.steps}};
    std::vector<Json> jobs;
    std::string error;
    try {
      jobs = make_pictures(row);
    } catch (const base::Stopped&) {
      throw;
    } catch (const std::exception& caught) {
      const Failure failure = describe_failure(caught);
      // The output folder's troubles are the run's, not the row's.
      if (failure.code == ExitCode::cannot_create || failure.code == ExitCode::io) throw;
      error = failure.message;
      base::log_warning(fmt::format("{}: {}", row.label, error));
      ++failed_;
    }
    finish_record(record, row, jobs, error);
    if (options_.common.json) output_.record(record);
    report_.rows.push_back(std::move(record));
    report_.labels.push_back(row.label);
    report_.series.push_back(series_of(row));
  }

  /// What a line in a chart is called: everything but the steps that differs.
  std::string series_of(const GridRow& row) const {
    const std::string steps = fmt::format("{} steps", row.steps);
    if (row.label == steps) return row.model_name;
    return row.label.ends_with(" · " + steps)
               ? row.label.substr(0, row.label.size() - steps.size() - std::string(" · ").size())
               : row.label;
  }

  std::vector<Json> make_pictures(const GridRow& row) {
    const GridModel& model = models_.at(row.model);
    if (!model.error.empty()) throw Error(model.code, model.error);
    std::string lora_sha256;
    if (!row.lora.empty()) lora_sha256 = base::sha256_file(parse_scaled_path("--loras", row.lora, false).path);
    base::Progress progress(row.label, tasks_.size(), "pictures");
    std::vector<Json> jobs;
    bool warm = false;
    for (const Task& task : tasks_) {
      base::throw_if_stopped();
      const std::string key = BenchStore::key(describe(row, model, lora_sha256, task));
      auto done = store_->job(key);
      if (!done) {
        const ImageOptions options = image_options(row, task);
        ready(row, options, warm);
        warm = true;
        done = make(key, row, options);
      }
      jobs.push_back(std::move(*done));
      progress.update(jobs.size());
    }
    return jobs;
  }

  /// Everything that decides a picture and how long it takes to make: what its key is the hash of.
  Json describe(const GridRow& row, const GridModel& model, const std::string& lora_sha256, const Task& task) const {
    Json d = {{"format", 1},
              {"version", ATELIER_VERSION},
              {"model", model.sha256},
              {"lora", lora_sha256},
              {"dtype", row.dtype},
              {"sampler", row.sampler},
              {"steps", row.steps},
              {"prompt", task.prompt},
              {"seed", task.seed},
              {"width", options_.width},
              {"height", options_.height},
              {"cfg_scale", options_.cfg_scale},
              {"device", device_.str()},
              {"threads", threads_in_use()},
              {"machine", machine_}};
    if (!row.lora.empty()) d["lora_scale"] = parse_scaled_path("--loras", row.lora, false).scale;
    if (options_.negative) d["negative"] = *options_.negative;
    return d;
  }

  ImageOptions image_options(const GridRow& row, const Task& task) const {
    ImageOptions o;
    o.prompt = task.prompt;
    o.negative = options_.negative;
    o.common.seed = task.seed;
    o.steps = row.steps;
    o.sampler = row.sampler == "default" ? "" : row.sampler;
    o.cfg_scale = options_.cfg_scale;
    o.width = options_.width, o.height = options_.height;
    if (!row.lora.empty()) o.loras = {row.lora};
    return o;
  }

  /// The row's model with its LoRA, loaded; where the row has not made a picture yet, warmed up.
  void ready(const GridRow& row, const ImageOptions& options, bool warm) {
    const std::string wanted = row.model + "\n" + row.dtype;
    if (loaded_ != wanted) {
      model_.reset();  // before the next one is there
      loaded_.clear();
      model_ = std::make_unique<MeasuredModel>(open(row.model, row.dtype));
      model_->load();
      loaded_ = wanted;
      adapters_ = Json::array();
    }
    if (warm) return;
    const auto wanted_loras = prompt_loras(options).loras;
    if (!wanted_loras.empty() || !adapters_.empty()) {
      const auto& reports = model_->use_loras(wanted_loras);
      adapters_ = describe_loras(reports);
      check_matches(reports, false);
    }
    for (std::int64_t i = 0; i < options_.warmup; ++i) model_->make(options);
  }

  Json make(const std::string& key, const GridRow& row, const ImageOptions& options) {
    const Measurement m = model_->make(options);
    const MadePicture& made = m.pictures.front();
    ImageOptions settled = options;
    settled.width = made.picture.width, settled.height = made.picture.height;
    Json record = {{"key", key},
                   {"row", row.id()},
                   {"prompt", *options.prompt},
                   {"seed", made.seed},
                   {"width", made.picture.width},
                   {"height", made.picture.height},
                   {"sampler", schedulers::name_of(m.sampler.sampler)},
                   {"schedule", schedulers::name_of(m.sampler.schedule)}};
    record["timings"] = {{"load_s", model_->load_seconds()},
                         {"text_s", m.text_s},
                         {"step_s", m.steps_s},
                         {"vae_s", m.vae_s},
                         {"picture_s", m.total_s}};
    record["memory"] = {{"allocator_bytes", m.allocator_bytes}, {"process_bytes", m.process_bytes}};
    if (m.joules) record["joules"] = *m.joules;
    if (!adapters_.empty()) record["adapters"] = adapters_;
    const auto text = picture_metadata(settled, ImageTask::txt2img, model_->files(), m.sampler, adapters_);
    return store_->put_job(key, made.picture, text, std::move(record));
  }

  // ---- what a row comes to ----

  void finish_record(Json& record, const GridRow& row, const std::vector<Json>& jobs, const std::string& error) {
    record["status"] = error.empty() ? "ok" : "failed";
    if (!error.empty()) record["error"] = error;
    record["n"] = error.empty() ? jobs.size() : 0;
    record["cfg_scale"] = options_.cfg_scale;
    record["metrics"] = Json::array();
    record["timings"] = Json::object();
    record["memory"] = Json::object();
    record["energy"] = Json::object();
    if (error.empty()) {
      add_measurements(record, jobs);
      add_figures(record, jobs);
      record["pictures"] = Json::array();
      for (const Json& job : jobs) record["pictures"].push_back(job.at("picture"));
    }
    record["device"] = device_.str();
    record["threads"] = threads_in_use();
    record["warmups"] = options_.warmup;
    record["batch_size"] = 1;
    record["model_sha256"] = models_.at(row.model).sha256;
    record["prompts_sha256"] = prompts_sha256_;
    record["seed"] = tasks_.front().seed;
    record["version"] = ATELIER_VERSION;
    record["machine"] = machine_;
  }

  void add_figures(Json& record, const std::vector<Json>& jobs) {
    if (!options_.quality.any()) return;
    std::vector<metrics::Captioned> pictures;
    std::vector<std::string> sha256;
    for (const Json& job : jobs) {
      pictures.push_back({store_->picture_path(job), job.at("prompt").get<std::string>()});
      sha256.push_back(job.at("sha256").get<std::string>());
    }
    const Quality::Result result = quality_->judge(pictures, sha256);
    for (const metrics::Figure& figure : result.figures) record["metrics"].push_back(figure_record(figure));
    if (result.failed.empty()) return;
    record["failed_metrics"] = result.failed;
    ++incomplete_;
  }

  // ---- the end ----

  [[noreturn]] void stop() const {
    throw base::Stopped(ExitCode::resumable,
                        fmt::format("stopped by {}; what was made is in {}",
                                    base::stop_signal() == 2 ? "SIGINT" : "SIGTERM", options_.output),
                        "the same command goes on from there");
  }

  int finish() {
    fill_report();
    std::optional<Error> incomparable;
    try {
      report_.verdicts = judge(gates_, report_.rows, baseline_);
    } catch (const Error& error) {
      incomparable = error;  // the report is worth having all the same
    }
    auto& outputs = options_.common.record->outputs;
    for (const std::string& path : write_reports(report_)) outputs.push_back(path);
    if (!options_.common.json) {
      output_.text(report::to_markdown(results_table(report_)));
      output_.text("\n" + options_.output + "/report.html\n");
    }
    if (incomparable) throw Error(*incomparable);
    check_verdicts();
    if (failed_ + incomplete_ == 0) return 0;
    base::log_warning(fmt::format("{} of {} rows failed{}", failed_, rows_.size(),
                                  incomplete_ > 0 ? fmt::format(", {} lack a figure", incomplete_) : ""));
    return static_cast<int>(ExitCode::some_failed);
  }

  void fill_report() {
    report_.settings = {
        {"pictures", tasks_.size()},  {"prompts", prompt_count_},    {"prompts_sha256", prompts_sha256_},
        {"count", options_.count},    {"seed", tasks_.front().seed}, {"cfg_scale", options_.cfg_scale},
        {"device", device_.str()},    {"threads", threads_in_use()}, {"warmup", options_.warmup},
        {"version", ATELIER_VERSION}, {"machine", machine_}};
    for (const char* side : {"width", "height"}) {
      report_.settings[side] = nullptr;
      for (const Json& row : report_.rows)
        if (row.contains(side)) report_.settings[side] = row[side];
    }
    for (std::size_t i = 0; i < tasks_.size() && report_.prompts.size() < static_cast<std::size_t>(options_.shown); ++i)
      report_.prompts.push_back(tasks_[i].prompt);
  }

  void check_verdicts() const {
    std::vector<const Verdict*> broken;
    for (const Verdict& verdict : report_.verdicts) {
      if (verdict.broken) broken.push_back(&verdict);
      if (!verdict.broken && !verdict.note.empty())
        base::log_warning(fmt::format("{} of {}: {}", verdict.gate, verdict.row, verdict.note));
    }
    if (broken.empty()) return;
    for (std::size_t i = 1; i < broken.size(); ++i) base::log_warning(text_of(*broken[i]));
    throw Error(ExitCode::condition, text_of(*broken.front()),
                broken.size() > 1 ? fmt::format("{} conditions of --fail-if hold in all", broken.size()) : "");
  }

  static std::string text_of(const Verdict& v) {
    if (!v.bound) return fmt::format("{} of {}: {}", v.gate, v.row, v.note);
    std::string text = fmt::format("{} of {}: it is {}, the bound {}", v.gate, v.row, report::number(*v.value),
                                   report::number(*v.bound));
    if (v.baseline) text += fmt::format(" (the baseline's {})", report::number(*v.baseline));
    return text;
  }

  const CompareOptions& options_;
  std::vector<Gate> gates_;
  std::vector<GridRow> rows_;
  std::vector<Json> baseline_;
  std::vector<Task> tasks_;
  std::int64_t prompt_count_ = 0;
  std::string prompts_sha256_;
  at::Device device_{at::kCPU};
  Json machine_;
  Output output_;
  std::optional<BenchStore> store_;
  std::optional<Quality> quality_;
  std::map<std::string, GridModel> models_;  ///< by path
  std::unique_ptr<MeasuredModel> model_;
  std::string loaded_;             ///< model and dtype of `model_`
  Json adapters_ = Json::array();  ///< in its weights
  ComparisonReport report_;
  std::size_t failed_ = 0, incomplete_ = 0;
};

int run_compare(const CompareOptions& options) { return Comparison(options).go(); }

}  // namespace

BenchCommand compare_command() {
  return bench_command<CompareOptions>(
      "compare", "Make pictures with every model and setting, and say which is better, and how sure that is.",
      define_compare_flags, run_compare);
}

}  // namespace atelier::cli
