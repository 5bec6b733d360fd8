#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "train/optimizer.h"
#include "train/parameters.h"
#include "train/precision.h"
#include "train/processes.h"
#include "train/schedule.h"

namespace atelier::train {

/// What one forward pass sees. A task derives its own.
struct Batch {
  virtual ~Batch() = default;
  double weight = 0;         ///< supervised tokens, or samples: the loss of a step is the mean over all of them
  std::uint64_t tokens = 0;  ///< processed, for tokens and tokens_per_s
};

/// What is trained: weights, data and loss. Everything else is the loop's.
class Task {
 public:
  virtual ~Task() = default;

  /// The same list, in the same order, at every call.
  virtual std::vector<Parameter> parameters() = 0;

  /// The next micro-batch; never ends (begins a new epoch where the data does).
  virtual std::unique_ptr<Batch> next() = 0;

  /// SUM of the losses of a batch over its `weight` terms: a scalar, f32, with its graph. Called under autocast.
  /// Randomness (dropout, noise) comes from LibTorch's default generators, which the loop saves.
  virtual at::Tensor loss(const Batch& batch) = 0;

  /// Draws the random numbers that loss() would draw for a batch that another process computes, so that those of the next one are the
  /// same in all processes. Needless where loss() draws none.
  virtual void skip(const Batch& /*batch*/) {}

  /// Where next() stands, for seek(): seed, epoch, row. Saved in every checkpoint.
  virtual base::Json position() const = 0;
  /// Error(data) where it does not fit the data.
  virtual void seek(const base::Json& position) = 0;

  /// Mean loss over the held-out data, or nothing where there is none. Called under autocast without gradients; must
  /// leave position and weights alone. The loop restores the random states after it.
  virtual std::optional<double> evaluate() { return std::nullopt; }

  /// Adds the task's own files (an adapter in PEFT layout) to a checkpoint folder that is being written.
  virtual void write_checkpoint(const std::string& /*folder*/) {}
};

struct LoopOptions {
  std::string run_folder;         ///< metrics.jsonl, event files, checkpoint-N
  std::int64_t steps = 0;         ///< optimiser steps of the whole run
  std::int64_t accumulation = 1;  ///< micro-batches of a step, of all processes together
  double lr = 0;
  ScheduleOptions schedule;  ///< its `steps` is set from the above
  OptimizerOptions optimizer;
  double max_grad_norm = 0;               ///< 0: no clipping
  Precision precision = Precision::fp32;  ///< check_precision is the tool's
  double ema_decay = 0;                   ///< 0: none
  std::int64_t eval_every = 0;            ///< 0: only before the first and after the last step
  std::int64_t early_stop = 0;            ///< evaluations in a row that are no better than the best one; 0: never
  std::int64_t save_every = 0;            ///< 0: only at the end, at a stop and at a best evaluation
  std::int64_t keep = 1;                  ///< newest checkpoints; the best one is kept besides
  std::string resume = "auto";  ///< "auto": the newest whole checkpoint, if any; "never"; or a checkpoint folder
  bool overwrite = false;       ///< a run folder that holds another run is emptied of it
  std::shared_ptr<Processes> processes;  ///< that train together; null: this one alone
  base::Json settings;          ///< flags that must be equal for a resume (model, data, method): keys to values
};

struct RunResult {
  enum class End { finished, early_stopped, was_finished } end = End::finished;
  std::int64_t steps = 0;      ///< taken in all, resumed parts included
  double loss = 0;             ///< of the last step
  std::vector<double> losses;  ///< of every step from the first on, resumed parts included
  std::optional<double> first_eval, best_eval;
  std::int64_t best_step = 0;  ///< 0: the weights before the first step
  std::string checkpoint;      ///< of the last step
};

/// "finished", "early_stopped" or "was_finished".
std::string_view end_name(RunResult::End end);

/// metrics.jsonl gets a line for every step (loss, lr, grad_norm, tokens, tokens_per_s) and one for every evaluation
/// (step, eval_loss); step 0 is before the first. The event files have train/loss, train/lr, train/grad_norm,
/// train/tokens_per_s and eval/loss.
///
/// Trains until options.steps, or until the evaluation stops improving. Parameters hold the last step's weights
/// afterwards (not the average, not the best ones: those are in checkpoint-N).
///
/// A step: `accumulation` micro-batches, the gradient of the mean loss over their common weight (so 4 x 1 equals 1 x 4
/// whatever the lengths), clipping, the optimiser, the average. A step whose batches weigh nothing is Error(data).
/// - Several processes: micro-batch i of a step is computed by process i modulo their number, and gradients and losses are summed over
///   them; but for the order of these sums a run comes to the same with any number of processes, and can be gone on with by another
///   number. The first one writes the run's folder and evaluates. A stop is agreed on between steps. What several draw that the others
///   cannot (dropout) differs from what one process would draw; after each step all have the random states of the first.
/// - SIGINT, SIGTERM: looked at before every micro-batch, evaluation and save. The state before the step at hand is
///   saved and base::Stopped(resumable) thrown; the same call resumes it. (130 or 143 where it comes
///   while a checkpoint is still being loaded.)
/// - A loss or gradient that is not finite: the state before the step is saved, Error(condition). With fp16 a gradient
///   that overflows skips the step and lowers the loss scale, until the scale is exhausted.
/// - A finished run returns at once (was_finished) with the weights loaded.
/// - A run folder with checkpoints and resume "never": Error(cannot_create) unless `overwrite`. Settings that differ
///   from the checkpoint's: Error(usage) naming the key.
RunResult train(Task& task, const LoopOptions& options);

/// Does what comes after a training whose last state is saved: writing what it made. base::Stopped becomes resumable, as the same command
/// goes on there.
void after_training(const std::function<void()>& work);

}  // namespace atelier::train
