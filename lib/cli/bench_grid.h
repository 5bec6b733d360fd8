#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace atelier::cli {

/// The axes of a comparison; every row is one value of each.
struct GridAxes {
  std::vector<std::string> models, loras, dtypes, samplers, steps;  ///< steps as texts, as flags give them
};

/// One row: a way to make pictures.
struct GridRow {
  std::string model;  ///< path
  std::string lora;   ///< PATH[:SCALE], "" for none
  std::string dtype, sampler;
  std::int64_t steps = 20;
  std::string model_name,
      lora_name;  ///< as tables call them: the last part of the path, more of it where two would be the same
  /// What it is called from one run to the next, so that --baseline finds it: "tiny-sd/none/auto/euler/20".
  std::string id() const;
  /// The same for charts and pictures: only what differs between the rows of this grid.
  std::string label;
};

/// Reads --grid: a TOML file whose keys are axes (models, loras, dtypes, samplers, steps), each a value or an array; an axis that
/// `flags` give already stays as it is. Paths in it are relative to the file. Error(data), Error(usage) for an unknown key.
void read_grid(const std::string& path, GridAxes& flags);

/// The product, models outermost and steps innermost; an empty axis is the default ("none" among the LoRAs means none). Error(usage) for a
/// step count that is none, a dtype that is unknown, more than 10,000 rows, or the same row twice.
std::vector<GridRow> make_rows(const GridAxes& axes);

}  // namespace atelier::cli
