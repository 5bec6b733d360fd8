#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/common.h"
#include "train/loop.h"

namespace atelier::cli {

/// What every trainer can be told.
struct TrainFlags {
  std::optional<std::int64_t> steps;
  double epochs = 1;
  std::int64_t batch_size = 1, accumulation = 1;
  double lr = 2e-4, warmup = 0.03, weight_decay = 0, max_grad_norm = 1, ema = 0;
  std::string scheduler = "cosine", optimizer = "adamw", precision = "auto";
  double lr_floor = 0, lr_power = 1, lr_decay = 0.1;
  std::int64_t lr_cycles = 1;
  bool checkpointing = false;

  std::int64_t eval_every = 0, early_stop = 0, save_every = 0, keep = 1;
  std::string resume = "auto";
  bool overwrite = false;
};

/// What differs from trainer to trainer.
struct TrainFlagChoice {
  bool lr = true;           ///< has --lr; else it has rates of its own
  bool evaluations = true;  ///< has held-out data: --eval-every, --early-stop
  std::string item = "Sequences";
  std::string auto_precision = "bf16 where the model is stored in it, else fp32";
  /// What --grad-checkpointing does.
  std::string checkpointing =
      "Keep only the layers' inputs, and of adapted weights' products what a quarter of the weights' memory has room for; "
      "compute the rest again in the backward pass: a little more time, far less memory, the same result";
};

/// The flags in the groups "Training" and "Evaluations and checkpoints"; defaults as `flags` has them.
void add_train_flags(CLI::App& app, TrainFlags& flags, const TrainFlagChoice& choice = {});

/// Optimiser steps of the whole run: --steps, or --epochs of so many steps each, rounded up.
std::int64_t steps_of(const TrainFlags& flags, std::int64_t steps_per_epoch);

/// Everything but settings and the precision. Error(usage): an unknown name, a warm-up longer than the run.
train::LoopOptions loop_options(const TrainFlags& flags, const std::string& run_folder, std::int64_t steps);

/// What must not change between a stop and its resume.
base::Json train_settings(const TrainFlags& flags);

/// The settings of the run that `resume` ("auto", "never" or a checkpoint's folder) would go on with; null where there is
/// none. Found without reading its tensors, which may turn out to be damaged later.
base::Json saved_settings(const std::string& run_folder, const std::string& resume);

/// What a launcher says (train::launch_from_environment), and what follows from it for the flags: --grad-accum counts for each process,
/// `flags` has them all; a process of a rank above 0 writes no manifest and says only what is wrong; --device auto and cuda mean its
/// own GPU.
train::Launch take_launch(CommonOptions& common, TrainFlags& flags);

/// --seed, or that of the run that is gone on with, so that the same command without one goes on with it; else a new one. Noted
/// for --manifest. All processes get that of the first.
std::uint64_t choose_seed(const CommonOptions& common, const TrainFlags& flags, const std::string& run_folder,
                          train::Processes& processes);

}  // namespace atelier::cli
