#include "train/loop.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <system_error>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/stop.h"
#include "train/ema.h"
#include "train/event_file.h"
#include "train/loss_scaler.h"
#include "train/metrics.h"
#include "train/run_state.h"

namespace atelier::train {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;
using base::Json;
using Clock = std::chrono::steady_clock;

void check(const LoopOptions& options) {
  const auto require = [](bool good, const char* message) {
    if (!good) throw Error(ExitCode::usage, message);
  };
  require(options.steps > 0, "the number of steps must be above 0");
  require(options.accumulation > 0, "the number of accumulated batches must be above 0");
  require(std::isfinite(options.lr) && options.lr >= 0, "the learning rate must not be negative");
  require(std::isfinite(options.max_grad_norm) && options.max_grad_norm >= 0, "the gradient norm must not be negative");
  require(options.eval_every >= 0 && options.save_every >= 0 && options.early_stop >= 0 && options.keep >= 1,
          "evaluations, saves and patience must not be negative, and at least one checkpoint is kept");
  require(!options.run_folder.empty(), "the run folder has no name");
}

/// What one optimiser step came to.
struct Step {
  double loss = 0, grad_norm = 0, lr = 0, seconds = 0;
  std::uint64_t tokens = 0;
};

class Run {
 public:
  Run(Task& task, const LoopOptions& options)
      : task_(task),
        options_(options),
        schedule_(options.schedule),
        parameters_(task.parameters()),
        checkpoints_(options.run_folder) {
    check(options);
    schedule_.steps = options.steps;
    check_schedule(schedule_);
    processes_ = options.processes ? options.processes : std::make_shared<Processes>();
    if (parameters_.empty()) throw Error(ExitCode::usage, "there is nothing to train");
    optimizer_ = make_optimizer(parameters_, options.optimizer);
    if (options.ema_decay > 0) ema_ = std::make_unique<Ema>(parameters_, options.ema_decay);
  }

  RunResult run() {
    processes_->in_turn([this] { resume(); });  // the first one puts back what a killed run left half done
    processes_->wait();                         // nobody writes while another one still reads
    if (end_ == "early_stopped" || (!end_.empty() && step_ >= options_.steps))
      return result(RunResult::End::was_finished);
    end_.clear();
    take_snapshot();
    if (processes_->first()) open_records();
    try {
      while (more()) one_step();
    } catch (const base::Stopped& stopped) {
      clear_gradients(parameters_);
      save();
      throw base::Stopped(ExitCode::resumable,
                          fmt::format("{} after step {} of {}", stopped.what(), step_, options_.steps),
                          "the same command resumes the run");
    }
    return result(end_ == "early_stopped" ? RunResult::End::early_stopped : RunResult::End::finished);
  }

 private:
  // --- Resuming -----------------------------------------------------------------------------------------------------

  void resume() {
    if (options_.overwrite && processes_->first()) clear_folder();
    if (options_.resume == "never") {
      if (holds_a_run()) {
        throw Error(ExitCode::cannot_create, fmt::format("{}: holds another run", options_.run_folder),
                    "--resume auto goes on with it, --overwrite removes it");
      }
      return;
    }
    std::optional<RunState> state;
    if (options_.resume == "auto") {
      state = checkpoints_.load_newest();
    } else {
      state = Checkpoints::load(options_.resume);
    }
    if (!state) return;
    check_settings(state->settings);
    restore(*state);
    base::log_info(fmt::format("resuming after step {}", step_));
  }

  bool holds_a_run() const {
    std::error_code ignored;
    return !checkpoints_.steps().empty() || fs::exists(metrics_path(), ignored);
  }

  void clear_folder() const {
    checkpoints_.clear();
    std::error_code ignored;
    std::vector<fs::path> records{metrics_path()};
    for (const auto& entry : fs::directory_iterator(options_.run_folder, ignored)) {
      if (entry.path().filename().native().starts_with("events.out.tfevents.")) records.push_back(entry.path());
    }
    for (const fs::path& path : records) fs::remove(path, ignored);
  }

  void check_settings(const Json& saved) const {
    const auto differ = [&](const std::string& key) {
      const auto text = [&](const Json& from) {
        if (!from.contains(key)) return std::string("not set");
        const std::string value = base::dump_json(from[key]);
        const bool sum = value.size() == 66 && value.find_first_not_of("\"0123456789abcdef") == std::string::npos;
        return sum ? value.substr(1, 8) : value;  // SHA-256: its beginning tells them apart
      };
      throw Error(ExitCode::usage,
                  fmt::format("{}: the run there has {} {}, and now it is {}", options_.run_folder, key, text(saved),
                              text(options_.settings)),
                  "--overwrite begins anew; another folder leaves it alone");
    };
    for (const auto& [key, value] : options_.settings.items()) {
      if (!saved.contains(key) || saved[key] != value) differ(key);
    }
    for (const auto& [key, value] : saved.items()) {
      if (!options_.settings.contains(key)) differ(key);
    }
  }

  void restore(const RunState& state) {
    load_weights(state.weights);
    optimizer_->load_state(state.optimizer);
    if (ema_) ema_->load_state(state.ema);
    task_.seek(state.position);
    restore_random(state.random);
    step_ = saved_step_ = state.step;
    const auto losses = state.history.find("losses");
    if (losses != state.history.end()) {
      const at::Tensor values = losses->second.to(at::kDouble).contiguous();
      losses_.assign(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
    }
    const base::JsonFields fields(state.loop, "state.json: loop");
    tokens_ = static_cast<std::uint64_t>(fields.integer("tokens", 0, INT64_MAX));
    poor_evaluations_ = fields.integer("poor_evaluations", 0, INT64_MAX);
    evaluation_due_ = saved_due_ = fields.boolean_or("evaluation_due", false);
    end_ = fields.string_or("end", "");
    if (fields.has("first_eval")) first_eval_ = fields.number("first_eval", -INFINITY, INFINITY);
    if (fields.has("best_eval")) best_eval_ = fields.number("best_eval", -INFINITY, INFINITY);
    best_step_ = fields.integer("best_step", 0, step_);
    if (const Json* scale = fields.find("loss_scale")) scaler_.load_state(*scale);
  }

  void load_weights(const TensorMap& weights) {
    const at::NoGradGuard no_grad;
    for (Parameter& parameter : parameters_) {
      const auto saved = weights.find(parameter.name);
      if (saved == weights.end() || saved->second.sizes() != parameter.tensor.sizes() ||
          saved->second.scalar_type() != parameter.tensor.scalar_type()) {
        throw Error(ExitCode::data, fmt::format("the checkpoint has no weights of the right shape and type for {}",
                                                base::in_quotes(parameter.name)));
      }
      parameter.tensor.copy_(saved->second);
    }
  }

  // --- Saving -------------------------------------------------------------------------------------------------------

  // Where data and random numbers stand after step_ steps: a step that is given up has moved them on.
  void take_snapshot() {
    position_ = task_.position();
    random_ = capture_random();
  }

  void save() {
    if (saved_step_ == step_ && saved_due_ == evaluation_due_ && end_.empty()) return;
    check_weights();
    if (processes_->first()) write_state();
    processes_->wait();
    saved_step_ = step_;
    saved_due_ = evaluation_due_;
  }

  void write_state() const {
    RunState state;
    state.step = step_;
    for (const Parameter& parameter : parameters_) state.weights[parameter.name] = parameter.tensor;
    state.optimizer = optimizer_->state();
    if (ema_) state.ema = ema_->state();
    state.random = random_;
    state.position = position_;
    state.settings = options_.settings;
    state.history["losses"] = at::tensor(losses_, at::kDouble);
    state.loop = {{"tokens", tokens_}, {"poor_evaluations", poor_evaluations_}, {"best_step", best_step_}};
    if (evaluation_due_) state.loop["evaluation_due"] = true;
    if (first_eval_) state.loop["first_eval"] = *first_eval_;
    if (best_eval_) state.loop["best_eval"] = *best_eval_;
    if (options_.precision == Precision::fp16) state.loop["loss_scale"] = scaler_.state();
    if (!end_.empty()) state.loop["end"] = end_;
    checkpoints_.save(state, [this](const std::string& folder) { task_.write_checkpoint(folder); });
    checkpoints_.prune(step_, options_.keep, best_step_ > 0 ? std::optional(best_step_) : std::nullopt);
  }

  // A state that cannot be gone on from must not take a good one's place.
  void check_weights() const {
    for (const Parameter& parameter : parameters_) {
      if (parameter.tensor.detach().isfinite().all().item<bool>()) continue;
      throw Error(ExitCode::condition,
                  fmt::format("after step {} the weights {} are not finite", step_, base::in_quotes(parameter.name)),
                  last_good());
    }
  }

  std::string last_good() const {
    if (saved_step_ < 0) return "no state was saved before";
    return fmt::format("the last good state is in {}", checkpoints_.path(saved_step_));
  }

  // Saves the state before the step at hand.
  [[noreturn]] void give_up(const std::string& what) {
    clear_gradients(parameters_);
    save();
    throw Error(ExitCode::condition, fmt::format("step {}: {}", step_ + 1, what), last_good());
  }

  // --- Stepping -----------------------------------------------------------------------------------------------------

  // Evaluates and saves what step_ steps call for; whether there is another one to take.
  bool more() {
    if (!first_eval_ && step_ == 0) evaluation_due_ = true;
    const bool improved = evaluation_due_ && evaluate();
    evaluation_due_ = false;
    if (options_.early_stop > 0 && poor_evaluations_ >= options_.early_stop && step_ > 0) {
      end_ = "early_stopped";
    } else if (step_ >= options_.steps) {
      end_ = "finished";
    }
    const bool due = options_.save_every > 0 && step_ > 0 && step_ % options_.save_every == 0;
    if (due || (improved && step_ > 0) || !end_.empty()) save();
    return end_.empty();
  }

  void one_step() {
    stop_together();
    const Step step = take_step();
    losses_.push_back(step.loss);
    tokens_ += step.tokens;
    ++step_;
    if (ema_) ema_->update(step_);
    evaluation_due_ = step_ == options_.steps || (options_.eval_every > 0 && step_ % options_.eval_every == 0);
    share_random();
    take_snapshot();
    if (processes_->first()) report(step);
  }

  /// All processes end at the same step, whichever of them was told to.
  void stop_together() const {
    if (processes_->alone()) return base::throw_if_stopped();
    const auto signal = static_cast<int>(processes_->largest(base::stop_signal()));
    if (signal == 0) return;
    if (!base::stop_requested()) base::request_stop(signal);
    base::throw_if_stopped();
  }

  /// Looks at the stop flag where no other process waits for this one.
  void stop_alone() const {
    if (processes_->alone()) base::throw_if_stopped();
  }

  void share_random() const {
    if (processes_->alone()) return;
    TensorMap states = capture_random();
    at::Tensor& state = states.at("cpu");
    std::vector<std::uint8_t> bytes(state.const_data_ptr<std::uint8_t>(),
                                    state.const_data_ptr<std::uint8_t>() + state.numel());
    processes_->from_first(bytes);
    std::copy(bytes.begin(), bytes.end(), state.mutable_data_ptr<std::uint8_t>());
    restore_random({{"cpu", state}});
  }

  Step take_step() {
    const Clock::time_point start = Clock::now();
    Step step;
    const std::vector<std::unique_ptr<Batch>> batches = next_batches();
    double weight = 0;
    for (const auto& batch : batches) {
      weight += batch->weight;
      step.tokens += batch->tokens;
    }
    if (!(weight > 0))
      throw Error(ExitCode::data, fmt::format("step {}: nothing in its batches is trained on", step_ + 1));
    for (std::size_t i = 0; i < batches.size(); ++i) {
      if (static_cast<int>(i % static_cast<std::size_t>(processes_->size())) == processes_->rank())
        step.loss += backward(*batches[i], weight);
      else
        task_.skip(*batches[i]);
    }
    share_gradients(step.loss);
    if (!std::isfinite(step.loss)) give_up("the loss is not finite");
    step.lr = options_.lr * schedule_factor(schedule_, step_);
    step.grad_norm = apply_gradients(step.lr);
    step.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return step;
  }

  std::vector<std::unique_ptr<Batch>> next_batches() {
    std::vector<std::unique_ptr<Batch>> batches;
    for (std::int64_t i = 0; i < options_.accumulation; ++i) {
      stop_alone();
      batches.push_back(task_.next());
    }
    return batches;
  }

  // Adds the gradient of this batch's part of the mean; returns that part.
  double backward(const Batch& batch, double total_weight) {
    stop_alone();
    at::Tensor loss;
    {
      const AutocastScope autocast(options_.precision, parameters_.front().tensor.device());
      loss = task_.loss(batch).to(at::kFloat) / total_weight;
    }
    const double value = loss.item<double>();
    if (std::isfinite(value)) (loss * scale()).backward();
    return value;
  }

  /// Gradients and loss of all processes together.
  void share_gradients(double& loss) {
    if (processes_->alone()) return;
    const at::NoGradGuard no_grad;
    at::Tensor sum = at::tensor({loss}, at::kDouble);
    processes_->sum(sum);
    loss = sum.item<double>();
    for (Parameter& parameter : parameters_) {
      at::Tensor& gradient = parameter.tensor.mutable_grad();
      if (!gradient.defined()) gradient = at::zeros_like(parameter.tensor);
      processes_->sum(gradient);
    }
  }

  double scale() const { return options_.precision == Precision::fp16 ? scaler_.scale() : 1; }

  // Returns the norm before clipping. With fp16 a step of gradients that overflowed is left out.
  double apply_gradients(double lr) {
    const bool scaled = options_.precision == Precision::fp16;
    if (scaled) scale_gradients(parameters_, 1 / scale());
    const double norm = gradient_norm(parameters_);
    const bool finite = std::isfinite(norm);
    if (scaled) scaler_.update(finite);
    if (!finite && (!scaled || scaler_.exhausted())) give_up("a gradient is not finite");
    if (finite) {
      clip_gradients(parameters_, norm, options_.max_grad_norm);
      optimizer_->step(lr);
    }
    clear_gradients(parameters_);
    return norm;
  }

  // Whether it is the best so far; the first one is what the others are compared with.
  bool evaluate() {
    stop_together();
    const std::optional<double> value = evaluate_first();
    if (!value) return false;
    if (!std::isfinite(*value)) {
      throw Error(ExitCode::condition, fmt::format("the evaluation after step {} is not finite", step_), last_good());
    }
    if (processes_->first()) record_evaluation(*value);
    if (!first_eval_) first_eval_ = value;
    const bool better = !best_eval_ || *value < *best_eval_;
    poor_evaluations_ = better ? 0 : poor_evaluations_ + 1;
    if (better) {
      best_eval_ = value;
      best_step_ = step_;
    }
    return better;
  }

  /// The first process evaluates, and the others hear what came of it.
  std::optional<double> evaluate_first() {
    if (processes_->alone()) return evaluate_task();
    std::optional<double> value;
    bool stopped = false;
    try {
      if (processes_->first()) value = evaluate_task();
    } catch (const base::Stopped&) {
      stopped = true;  // with the others, who would wait
    }
    if (processes_->from_first(std::int64_t{stopped}) != 0) stop_together();
    const bool known = processes_->from_first(std::int64_t{value.has_value()}) != 0;
    const auto bits = processes_->from_first(std::bit_cast<std::int64_t>(value.value_or(0)));
    return known ? std::optional(std::bit_cast<double>(bits)) : std::nullopt;
  }

  std::optional<double> evaluate_task() {
    struct RandomScope {  // what an evaluation draws is none of the training's
      const TensorMap& states;
      ~RandomScope() { restore_random(states); }
    } const random{random_};
    const EmaScope averaged(ema_.get());
    const at::NoGradGuard no_grad;
    const AutocastScope autocast(options_.precision, parameters_.front().tensor.device());
    return task_.evaluate();
  }

  // --- Records ------------------------------------------------------------------------------------------------------

  std::string metrics_path() const { return (fs::path(options_.run_folder) / "metrics.jsonl").native(); }

  void open_records() {
    io::file_system().create_folders(options_.run_folder);
    metrics_ = std::make_unique<MetricsFile>(metrics_path(), saved_step_, evaluation_due_);
    events_ = std::make_unique<EventFile>(options_.run_folder, step_ + 1);
    first_step_ = step_;
    progress_ =
        std::make_unique<base::Progress>("training", static_cast<std::uint64_t>(options_.steps - step_), "steps");
  }

  void report(const Step& step) {
    const double speed = step.seconds > 0 ? static_cast<double>(step.tokens) / step.seconds : 0;
    metrics_->write({.step = step_,
                     .loss = step.loss,
                     .lr = step.lr,
                     .grad_norm = step.grad_norm,
                     .tokens = tokens_,
                     .tokens_per_s = speed,
                     .eval_loss = {},
                     .peak_rss_bytes = base::peak_rss_bytes()});
    const EventFile::Scalar scalars[] = {{"train/loss", step.loss},
                                         {"train/lr", step.lr},
                                         {"train/grad_norm", step.grad_norm},
                                         {"train/tokens_per_s", speed}};
    events_->scalars(step_, scalars);
    progress_->update(static_cast<std::uint64_t>(step_ - first_step_), fmt::format("loss {:.4f}", step.loss));
  }

  void record_evaluation(double value) {
    StepMetrics line;
    line.step = step_;
    line.eval_loss = value;
    line.peak_rss_bytes = base::peak_rss_bytes();
    metrics_->write(line);
    const EventFile::Scalar scalars[] = {{"eval/loss", value}};
    events_->scalars(step_, scalars);
  }

  RunResult result(RunResult::End end) const {
    return {.end = end,
            .steps = step_,
            .loss = losses_.empty() ? 0 : losses_.back(),
            .losses = losses_,
            .first_eval = first_eval_,
            .best_eval = best_eval_,
            .best_step = best_step_,
            .checkpoint = checkpoints_.path(step_)};
  }

  Task& task_;
  const LoopOptions& options_;
  ScheduleOptions schedule_;
  std::vector<Parameter> parameters_;
  Checkpoints checkpoints_;
  std::shared_ptr<Processes> processes_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Ema> ema_;
  LossScaler scaler_;

  std::int64_t step_ = 0, saved_step_ = -1, first_step_ = 0, best_step_ = 0, poor_evaluations_ = 0;
  std::uint64_t tokens_ = 0;
  std::vector<double> losses_;
  std::optional<double> first_eval_, best_eval_;
  bool evaluation_due_ = false, saved_due_ = false;  // saved_due_: as the last checkpoint has it
  std::string end_;                                  // "", "finished", "early_stopped"
  Json position_;
  TensorMap random_;

  std::unique_ptr<MetricsFile> metrics_;
  std::unique_ptr<EventFile> events_;
  std::unique_ptr<base::Progress> progress_;
};

}  // namespace

std::string_view end_name(RunResult::End end) {
  switch (end) {
    case RunResult::End::finished: return "finished";
    case RunResult::End::early_stopped: return "early_stopped";
    case RunResult::End::was_finished: break;
  }
  return "was_finished";
}

RunResult train(Task& task, const LoopOptions& options) {
  base::throw_if_stopped();
  return Run(task, options).run();
}

void after_training(const std::function<void()>& work) {
  try {
    work();
  } catch (const base::Stopped& stopped) {
    throw base::Stopped(ExitCode::resumable, fmt::format("{} after the last step", stopped.what()),
                        "the same command writes what was trained");
  }
}

}  // namespace atelier::train
