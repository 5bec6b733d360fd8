#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "report/table.h"

namespace atelier::cli {

/// Finished measurements of trainings, as their reports show them.
struct TrainReport {
  std::vector<base::Json> rows;     ///< as in results.jsonl (docs/bench.md)
  std::vector<std::string> labels;  ///< of the rows: what tells them apart
  base::Json settings;              ///< what all rows have in common, and the machine
};

/// A line for each row: speed, memory, the loss before and after. What is printed on stdout too.
report::Table train_table(const TrainReport& report);

/// Writes results.jsonl, results.csv, report.md and report.html into the folder, each whole or not at all; gives their paths.
std::vector<std::string> write_train_reports(const TrainReport& report, const std::string& folder);

}  // namespace atelier::cli
