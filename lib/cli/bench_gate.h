#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace atelier::cli {

/// A condition that fails a run: "fid>+2%" (2 % above the baseline), "step_s>+0.1" (so much above it), "clip-score<-1%" (below
/// it), "fid>20" (whatever the baseline is).
struct Gate {
  std::string text, quantity;
  bool above = true;  ///< > or <
  double limit = 0;
  bool relative = false, percent = false;  ///< to the baseline, of it

  /// What the value may not pass. `baseline` counts where the gate is relative.
  double bound(double baseline) const;
};

/// What gates may ask of a row: its figures, the medians of its times, its peaks.
const std::vector<std::string>& gate_quantities();

/// Error(usage) naming the nearest quantity, or what is wrong.
Gate parse_gate(const std::string& text);

/// A row's value, or nothing where the row does not have it.
std::optional<double> quantity_of(const base::Json& row, const std::string& quantity);

/// The rows of a results.jsonl. Error(no_input), Error(data) naming the line.
std::vector<base::Json> read_results(const std::string& path);

/// What a gate says of one row.
struct Verdict {
  std::string row, gate;
  std::optional<double> value, baseline, bound;  ///< nothing: the row does not have it
  bool broken = false;
  std::string note;  ///< why it could not be judged
};

/// Every gate on every row that ran. A row that the baseline does not have is judged by no relative gate, and one of the baseline
/// that did not run now breaks every gate. Error(data) where a figure is not comparable with the baseline's: another variant,
/// other weights, other numbers of pictures, other prompts; where no row is in the baseline.
std::vector<Verdict> judge(const std::vector<Gate>& gates, const std::vector<base::Json>& rows,
                           const std::vector<base::Json>& baseline);

}  // namespace atelier::cli
