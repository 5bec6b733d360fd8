#pragma once

#include "cli/train_lora_options.h"

namespace atelier::cli {

/// sd-train-lora: a training with its output, a report on the data, or a plan. Returns the exit code.
int run_train_lora(const TrainLoraOptions& options);

}  // namespace atelier::cli
