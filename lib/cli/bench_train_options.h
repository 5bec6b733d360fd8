#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/image_data_options.h"
#include "cli/image_train_options.h"

namespace atelier::cli {

/// Everything that sd-bench train can be told.
struct TrainBenchOptions {
  TrainBenchOptions();

  ImageTrainOptions train;  ///< what all rows have in common
  ImageDataOptions data;
  std::vector<std::string> methods, precisions, optimizers, batch_sizes;  ///< the axes; empty: one row's default
  std::string eval_data, output;
  std::int64_t steps = 40, eval_every = 10, pairs = 32;
  std::optional<std::int64_t> warmup;

  std::int64_t warmups() const { return warmup.value_or(std::min<std::int64_t>(3, steps - 1)); }
};

void define_train_bench_flags(CLI::App& app, TrainBenchOptions& options);

/// One row: a way to train.
struct TrainBenchRow {
  ImageTrainOptions train;
  std::string id;     ///< "lora/auto/adamw/4"
  std::string label;  ///< what of it differs between the rows
};

/// The product of the axes, methods outermost and batch sizes innermost. Error(usage): a value twice, warm-up steps that leave none.
std::vector<TrainBenchRow> train_bench_rows(const TrainBenchOptions& options);

}  // namespace atelier::cli
