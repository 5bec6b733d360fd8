#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/bench_grid.h"
#include "cli/bench_quality.h"
#include "cli/common.h"

namespace atelier::cli {

/// Everything that sd-bench compare can be told.
struct CompareOptions {
  CommonOptions common;
  GridAxes axes;
  std::string grid, prompts, output, baseline;
  std::optional<std::string> negative;
  std::vector<std::string> fail_if;
  std::int64_t width = 0, height = 0;  ///< 0: the model's own size
  std::int64_t count = 1, warmup = 1, shown = 8;
  double cfg_scale = 7.5;
  bool overwrite = false;
  QualityOptions quality;
};

void define_compare_flags(CLI::App& app, CompareOptions& options);

}  // namespace atelier::cli
