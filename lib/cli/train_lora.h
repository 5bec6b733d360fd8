#pragma once

#include "cli/train_lora_options.h"

namespace atelier::cli {

/// sd-train-lora: a training with its output, a report on the data, or a plan. Returns the exit code. Changes the options as
/// take_launch does.
int run_train_lora(TrainLoraOptions& options);

}  // namespace atelier::cli
