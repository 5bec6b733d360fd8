#pragma once

#include "cli/finetune_options.h"

namespace atelier::cli {

/// gemma-finetune: a training with its output, a report on the data, or a plan. Returns the exit code. Changes the options as
/// take_launch does.
int run_finetune(FinetuneOptions& options);

}  // namespace atelier::cli
