#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "io/file_system.h"

namespace atelier::train {

/// One line of metrics.jsonl; absent keys are left out.
struct StepMetrics {
  std::int64_t step = 0;  ///< from 1
  std::optional<double> loss = {}, lr = {}, grad_norm = {};
  std::optional<std::uint64_t> tokens = {};  ///< since the run began, resumed parts included
  std::optional<double> tokens_per_s = {};   ///< of this step
  std::optional<double> eval_loss = {};
  std::uint64_t peak_rss_bytes = 0;
};

/// metrics.jsonl of a run folder, one line a step, appended and flushed to the system line by line.
class MetricsFile {
 public:
  /// Keeps the lines up to `step` (from -1) and drops later ones and a last line that was cut: the steps after a
  /// checkpoint are taken again. `evaluation_due`: the evaluation after `step` is made again, too. Error(data): an
  /// earlier line that is not ours. Error(cannot_create), Error(io).
  MetricsFile(const std::string& path, std::int64_t step, bool evaluation_due = false);

  void write(const StepMetrics& metrics);

 private:
  std::unique_ptr<io::OutputFile> file_;
};

}  // namespace atelier::train
