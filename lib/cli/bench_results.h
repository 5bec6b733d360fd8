#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace atelier::cli {

/// The rows of a comparison, as results.jsonl has them (docs/bench.md).

/// What reports show of a row.
struct Quantity {
  const char* name;  ///< as in results.jsonl and --fail-if
  const char* title;
  bool small_is_good;
};
std::span<const Quantity> figure_quantities();  ///< in the order of their columns

bool ran(const base::Json& row);
/// The row's figure of this metric, or null.
const base::Json* figure_in(const base::Json& row, const std::string& metric);
std::optional<std::pair<double, double>> interval_of(const base::Json& figure);

/// {"median","p95","n"} in seconds; null where nothing was measured.
base::Json spread_record(const std::vector<double>& seconds);

/// Where it was measured, for reports: of settings with "device", "threads", "version" and "machine" (machine_record).
std::vector<std::pair<std::string, std::string>> machine_facts(const base::Json& settings);

/// Adds to a row what its pictures' records say: sampler, size, adapters, "timings", "memory", "energy".
void add_measurements(base::Json& row, const std::vector<base::Json>& jobs);

/// results.csv: a line for each row, numbers with full precision.
std::string results_csv(const std::vector<base::Json>& rows);

}  // namespace atelier::cli
