#pragma once

#include "cli/generate_options.h"

namespace atelier::cli {

/// gemma-generate: one prompt with its candidates, a batch of jobs, a score, or a plan. Returns the exit code.
int run_generate(const GenerateOptions& options);

}  // namespace atelier::cli
