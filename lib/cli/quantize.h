#pragma once

#include <cstdint>
#include <string>

#include "cli/common.h"

namespace atelier::cli {

/// Everything that gemma-quantize can be told.
struct QuantizeOptions {
  CommonOptions common;
  std::string output, calibrate, evaluate;
  std::int64_t bits = 4, group = 32, calibrate_tokens = 8192, evaluate_tokens = 8192, window = 512;
};

void define_quantize_flags(CLI::App& app, QuantizeOptions& options);

/// gemma-quantize: makes a model folder in fewer bits and says how far its predictions are from the original's. Returns the exit
/// code.
int run_quantize(const QuantizeOptions& options);

}  // namespace atelier::cli
