#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "train/loop.h"

namespace atelier::cli {

/// What a training took and what it taught.
struct TrainingMeasurement {
  std::vector<double> seconds;                          ///< of each step: data, both passes, optimiser
  std::vector<std::pair<std::int64_t, double>> losses;  ///< steps taken, and what the task's evaluation said then
  std::uint64_t samples = 0;                            ///< of all steps
};

/// Trains with the loop of all trainers, in a folder that is gone afterwards, without a checkpoint at the end: what was learnt is not
/// wanted. Errors as train::train; a stop is 130 or 143, for there is nothing to resume.
TrainingMeasurement measure_training(train::Task& task, train::LoopOptions options);

}  // namespace atelier::cli
