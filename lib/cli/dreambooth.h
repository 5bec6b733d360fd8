#pragma once

#include "cli/dreambooth_options.h"

namespace atelier::cli {

/// sd-dreambooth: a training with its output, a report on the pictures or the token, or a plan. Returns the exit code. Changes the options
/// as take_launch does.
int run_dreambooth(DreamBoothOptions& options);

}  // namespace atelier::cli
