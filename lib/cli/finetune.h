#pragma once

#include "cli/finetune_options.h"

namespace atelier::cli {

/// gemma-finetune: a training with its output, a report on the data, or a plan. Returns the exit code.
int run_finetune(const FinetuneOptions& options);

}  // namespace atelier::cli
