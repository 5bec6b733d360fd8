#include "cli/finetune.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

#include <ATen/Context.h>
#include <fmt/format.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/stopwatch.h"
#include "cli/default_model.h"
#include "cli/finetune_model.h"
#include "cli/finetune_output.h"
#include "cli/finetune_samples.h"
#include "cli/output.h"
#include "train/run_state.h"
#include "train/text/task.h"

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using base::Json;
using train::RunResult;
using train::text_data::Dataset;
using train::text_data::RowKind;
using train::text_data::RowOptions;

RowOptions row_options(const FinetuneOptions& o, std::shared_ptr<const text::Tokenizer> tokenizer,
                       std::shared_ptr<const text::ChatTemplate> chat_template) {
  return {std::move(tokenizer), std::move(chat_template), o.mask_prompt != "false", o.special};
}

/// What a user should know of the rows before a night is spent on them.
void warn_of(const Dataset& data, const std::string& path, const FinetuneOptions& o) {
  const auto& report = data.report();
  if (report.too_long > 0)
    base::log_warning(fmt::format("{}: {} of {} rows have more than {} tokens and are {}", path, report.too_long,
                                  report.rows, o.max_seq_len, o.on_long == "drop" ? "left out" : "cut"));
  if (report.dropped > 0 && o.on_long != "drop")
    base::log_warning(fmt::format("{}: of {} rows nothing that is learnt is left within {} tokens; they are left out",
                                  path, report.dropped, o.max_seq_len));
  if (o.mask_prompt == "true" && report.kind == RowKind::text)
    throw Error(ExitCode::usage, "--mask-prompt true: text rows have no prompt");
}

class Run {
 public:
  explicit Run(FinetuneOptions& options) : o_(options) {}

  int go() {
    check_finetune_flags(o_);
    const train::Launch launch = take_launch(o_.common, o_.train);
    if ((o_.check || o_.common.plan) && launch.rank > 0) return 0;  // the first process says it
    if (o_.check) return check_data();
    const TraineeFiles trainee = open_trainee(o_);
    check_adapter_flags(o_, trainee.files);
    const auto plan = [&] { return finetune_plan(o_, trainee); };
    if (const auto code = answer_plan(o_.common, output_, plan)) return *code;
    check_output_folder(o_, trainee.files.folder);
    processes_ = std::make_shared<train::Processes>(launch, o_.output);
    seed_ = choose_seed(o_.common, o_.train, o_.output, *processes_);
    return train(trainee);
  }

 private:
  int check_data() {
    const auto parts = text_parts_of(pipelines::TextModelFiles::open_untrained(model_or_default(o_.common.model), {}));
    Json report = Dataset(o_.data, parts, dataset_options(o_, 0)).report().json();
    report["data"] = o_.data;
    Json held_out;
    if (!o_.eval_data.empty()) {
      held_out = Dataset(o_.eval_data, parts, held_out_options(o_)).report().json();
      held_out["data"] = o_.eval_data;
    }
    for (const Json& one : {report, held_out}) {
      if (one.is_null()) continue;
      if (o_.common.json) {
        output_.record(one);
      } else {
        output_.text(report_text(one));
        output_.end_text();
      }
    }
    return 0;
  }

  /// Tokenizer and template as a loaded model would have them.
  RowOptions text_parts_of(const pipelines::TextModelFiles& files) const {
    const auto parts = pipelines::TextParts::open(files);
    return row_options(o_, parts.tokenizer, parts.chat_template);
  }

  static std::string report_text(const Json& r) {
    const auto& l = r["lengths"];
    return fmt::format(
        "{}: {} {} rows, {} trained on\n"
        "tokens: {}; supervised: {} ({:.1f} %)\n"
        "tokens of a row: least {}, median {}, mean {:.1f}, 95 % up to {}, most {}\n"
        "longer than the limit: {}; left out: {}\n"
        "sequences of an epoch: {}\n"
        "supervised ends of turns: {}, of texts: {}\n",
        base::printable(r["data"].get<std::string>()), r["rows"].get<std::int64_t>(), r["kind"].get<std::string>(),
        r["kept"].get<std::int64_t>(), r["tokens"].get<std::int64_t>(), r["supervised_tokens"].get<std::int64_t>(),
        100 * r["supervised_share"].get<double>(), l["min"].get<std::int64_t>(), l["median"].get<std::int64_t>(),
        l["mean"].get<double>(), l["p95"].get<std::int64_t>(), l["max"].get<std::int64_t>(),
        r["too_long"].get<std::int64_t>(), r["dropped"].get<std::int64_t>(), r["sequences"].get<std::int64_t>(),
        r["end_of_turns"].get<std::int64_t>(), r["end_of_texts"].get<std::int64_t>());
  }

  int train(const TraineeFiles& trainee) {
    const base::Stopwatch loading;
    const RowOptions rows = text_parts_of(trainee.files);
    const auto data = std::make_shared<Dataset>(o_.data, rows, dataset_options(o_, seed_));
    warn_of(*data, o_.data, o_);
    std::shared_ptr<Dataset> held_out;
    if (!o_.eval_data.empty()) {
      held_out = std::make_shared<Dataset>(o_.eval_data, rows, held_out_options(o_));
      warn_of(*held_out, o_.eval_data, o_);
      if (held_out->report().kind != data->report().kind)
        throw Error(ExitCode::data, fmt::format("{} has rows of another kind than {}", o_.eval_data, o_.data));
    }
    const Json settings = settings_of(trainee, *data, held_out.get());
    Trainee model = make_trainee(o_, trainee.files, seed_);
    std::optional<SampleWriter> samples;
    if (!o_.sample_prompts.empty()) {
      const auto mode =
          data->report().kind == RowKind::messages ? pipelines::PromptMode::chat : pipelines::PromptMode::raw;
      samples.emplace(o_.sample_prompts, o_.output + "/samples", model.model, mode, o_.sample_tokens);
    }
    train::text_data::TextTask task(model.model->network, model.parameters, data, held_out,
                                    task_options(trainee, model, samples ? &*samples : nullptr));
    train::LoopOptions options = loop_options(o_.train, o_.output, steps_of(o_.train, task.steps_per_epoch()));
    options.precision = trainee.precision;
    options.processes = processes_;
    options.settings = settings;
    base::log_info(fmt::format("{} steps, {} of {} numbers trained, {} tokens an epoch", options.steps, model.trained(),
                               trainee.files.config.parameters(), data->report().tokens));
    if (o_.train.overwrite && processes_->first()) remove_output(o_);
    at::manual_seed(seed_);
    Json& timings = o_.common.record->timings;
    timings["load_s"] = loading.seconds();
    const base::Stopwatch training;
    const RunResult result = train::train(task, options);
    timings["train_s"] = training.seconds();
    return finish(trainee, model, result, options, *data);
  }

  train::text_data::TextTaskOptions task_options(const TraineeFiles& files, const Trainee& trainee,
                                                 const SampleWriter* samples) const {
    train::text_data::TextTaskOptions options;
    options.accumulation = o_.train.accumulation;
    options.recompute = recompute_of(o_, files);
    if (trainee.adapter) {
      const auto* adapter = &*trainee.adapter;
      options.set_training = [adapter](bool training) { adapter->set_training(training); };
      options.write_checkpoint = [adapter](const std::string& folder) { save_peft(folder, *adapter); };
    }
    if (samples != nullptr) options.after_evaluation = [samples](std::int64_t step) { samples->write(step); };
    return options;
  }

  Json settings_of(const TraineeFiles& trainee, const Dataset& data, const Dataset* held_out) const {
    Json settings = {{"tool", "gemma-finetune"}, {"model", model_fingerprint(trainee.files)},
                     {"init", o_.init},          {"data", data.sha256()},
                     {"method", o_.method},      {"seed", seed_}};
    settings["eval_data"] = held_out != nullptr ? Json(held_out->sha256()) : Json("");
    settings["precision"] = trainee.precision == train::Precision::fp32 ? "fp32" : "bf16";
    settings["dtype"] = trainee.files.dtype == at::kFloat ? "fp32" : "bf16";
    const Json own = {{"rank", o_.rank},
                      {"alpha", o_.alpha},
                      {"dropout", o_.dropout},
                      {"target_modules", o_.target_modules},
                      {"rank_pattern", o_.rank_patterns},
                      {"alpha_pattern", o_.alpha_patterns},
                      {"rslora", o_.rslora},
                      {"use_dora", o_.use_dora},
                      {"init_adapter", o_.init_adapter},
                      {"max_seq_len", o_.max_seq_len},
                      {"on_long", o_.on_long},
                      {"packing", o_.packing},
                      {"group_by_length", o_.group_by_length},
                      {"shuffle", !o_.no_shuffle},
                      {"mask_prompt", o_.mask_prompt},
                      {"special", o_.special}};
    const Json shared = train_settings(o_.train);
    for (const Json* part : {&own, &shared})
      for (const auto& [key, value] : part->items()) settings[key] = value;
    return settings;
  }

  bool writes_best() const { return o_.best || o_.require_improvement || o_.train.early_stop > 0; }

  int finish(const TraineeFiles& trainee, Trainee& model, const RunResult& result, const train::LoopOptions& options,
             const Dataset& data) {
    const bool improved = result.best_step > 0;
    if (o_.require_improvement && !improved) {
      if (processes_->first()) remove_output(o_);
      throw Error(
          ExitCode::condition,
          fmt::format("no evaluation was better than the one before the first step: loss {:.4f}; no {} is written",
                      result.first_eval.value_or(0), model.adapter ? "adapter" : "model"),
          "metrics.jsonl has them all; the checkpoints are kept");
    }
    if (writes_best() && !improved)
      base::log_warning("no evaluation was better than the one before the first step; the last weights are written");
    if (!processes_->first()) return 0;
    const std::int64_t step = writes_best() && improved ? result.best_step : result.steps;
    const bool there = result.end == RunResult::End::was_finished && output_is_there(o_);
    const auto write = [&] {
      train::take_weights(model.parameters, train::Checkpoints(o_.output).path(step));
      if (model.adapter) model.adapter->set_training(false);
      write_output(o_, trainee, model);
    };
    if (!there) train::after_training(write);
    for (const std::string& file : output_files(o_)) o_.common.record->outputs.push_back(file);
    report(model, result, options, data, step);
    return 0;
  }

  void report(const Trainee& model, const RunResult& result, const train::LoopOptions& options, const Dataset& data,
              std::int64_t written) {
    if (!o_.common.json) {
      output_.text(o_.output + "\n");
      output_.end_text();
      return;
    }
    Json record = {{"output", o_.output},
                   {"method", o_.method},
                   {"end", train::end_name(result.end)},
                   {"steps", result.steps},
                   {"written_step", written},
                   {"rows", data.report().kept},
                   {"trained_parameters", model.trained()},
                   {"loss", result.loss}};
    if (result.first_eval) record["first_eval_loss"] = *result.first_eval;
    if (result.best_eval) record["best_eval_loss"] = *result.best_eval;
    if (result.best_eval) record["best_step"] = result.best_step;
    record["seed"] = seed_;
    record["lr"] = options.lr;
    if (o_.merge) record["merged"] = merged_folder(o_);
    record["timings"] = o_.common.record->timings;
    record["peak_rss_bytes"] = base::peak_rss_bytes();
    output_.record(record);
  }

  FinetuneOptions& o_;
  std::shared_ptr<train::Processes> processes_;  // that train together
  Output output_;
  std::uint64_t seed_ = 0;
};

}  // namespace

int run_finetune(FinetuneOptions& options) { return Run(options).go(); }

}  // namespace atelier::cli
