#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "cli/bench_gate.h"
#include "report/table.h"

namespace atelier::cli {

/// A finished comparison, as its reports show it.
struct ComparisonReport {
  std::string folder;                ///< where the reports go, and what "pictures" of rows are relative to
  std::vector<base::Json> rows;      ///< as in results.jsonl
  std::vector<std::string> labels;   ///< of the rows: what tells them apart
  std::vector<std::string> series;   ///< of the rows: the label without the steps, which a line in a chart joins
  base::Json models;                 ///< name -> {"path","sha256","architecture"} or {"path","error"}
  base::Json settings;               ///< what all rows have in common, and the machine
  std::vector<std::string> prompts;  ///< those whose pictures are shown; a row's "pictures" begin with theirs
  std::vector<Verdict> verdicts;
};

/// Rows with their figures, times and memory: what is printed on stdout too.
report::Table results_table(const ComparisonReport& report);

/// Writes results.jsonl, results.csv, report.md and report.html, each whole or not at all; gives their paths.
std::vector<std::string> write_reports(const ComparisonReport& report);

}  // namespace atelier::cli
