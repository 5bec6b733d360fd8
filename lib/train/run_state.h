#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "train/parameters.h"

namespace atelier::train {

/// Everything that a run needs to go on as if it had never stopped. One writer and one reader; what the parts mean is
/// their owners' affair (Optimizer, Ema, LossScaler, the dataset).
struct RunState {
  std::int64_t step = 0;  ///< optimiser steps taken
  TensorMap weights;      ///< what is trained
  TensorMap optimizer, ema, random;
  TensorMap history;    ///< what grows with the steps: "losses", (step) f64
  base::Json position;  ///< where in the data: the dataset's own
  base::Json loop;      ///< best evaluation, loss scale, tokens: the loop's own
  base::Json settings;  ///< what must not change between stop and resume
};

/// The random states of LibTorch's default generators: "cpu", and "cuda:0" and so on where CUDA is there. (n) U8.
TensorMap capture_random();
/// Error(data): a state that a generator does not take. States of devices that are not here are ignored.
void restore_random(const TensorMap& states);

/// The numbered checkpoints of a run folder.
///
/// `checkpoint-N/` holds weights.safetensors, optimizer.safetensors, ema.safetensors, history.safetensors,
/// random.safetensors (those that have tensors) and state.json: {"format": 1, "step", "files": {NAME: {"bytes",
/// "sha256"}}, "position", "loop", "settings", "sha256" of the rest}. It is written as a hidden sibling, file by file
/// with fsync, state.json last, and then renamed: a folder of that name is whole, whatever kills the process. Older
/// ones go only after that.
class Checkpoints {
 public:
  /// `folder` need not exist yet.
  explicit Checkpoints(std::string folder);

  /// Writes `checkpoint-STEP` and returns its path; `add` puts further files into the folder (given by its hidden name)
  /// before it is put in place. One of that step that is there is replaced. Removes what a killed process left behind.
  /// A stop that is asked for meanwhile waits for the end. Error(cannot_create), Error(io): what was there still is.
  std::string save(const RunState& state, const std::function<void(const std::string& folder)>& add = {}) const;

  /// Removes those above `newest` (damaged ones that a resumed run has passed by), and of the others all but the last
  /// `keep` (at least 1) and the one of step `best`.
  void prune(std::int64_t newest, std::int64_t keep, std::optional<std::int64_t> best = {}) const;
  /// Removes all.
  void clear() const;

  /// Steps that have a folder, ascending; whole or not.
  std::vector<std::int64_t> steps() const;
  std::string path(std::int64_t step) const;

  /// The newest whole one; each damaged one above it is a warning. Nothing where there is none; Error(data) where all
  /// are damaged.
  std::optional<RunState> load_newest() const;

  /// Reads and verifies one checkpoint folder, bit for bit by its hashes. Tensors on the CPU, in their saved dtype;
  /// they share mapped pages, so do not write to them. Error(no_input), Error(data).
  static RunState load(const std::string& checkpoint);

 private:
  std::string folder_;
};

/// Puts into the parameters what a checkpoint's run comes to: the averaged weights where it has them, else its last ones. Errors of
/// Checkpoints::load.
void take_weights(const std::vector<Parameter>& parameters, const std::string& checkpoint);

}  // namespace atelier::train
