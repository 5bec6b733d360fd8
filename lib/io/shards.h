#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace atelier::io {

/// The files that hold a checkpoint, found without opening any of them.
struct CheckpointFiles {
  std::vector<std::string> paths;            ///< what to open, in the order of the index
  std::map<std::string, std::size_t> owner;  ///< tensor -> place in `paths`, by the index; empty without one
};

/// Implements the look-up that WeightSource::open describes. Every file name of an index is checked before anything is
/// opened. Error(no_input): nothing there; Error(data): a hostile or malformed index.
CheckpointFiles find_checkpoint(const std::string& path, const std::string& stem);

/// Whether a folder has a checkpoint by this name: one file, or an index of shards. A stem may end with a variant ("model.fp16").
bool has_checkpoint(const std::string& folder, const std::string& stem);

}  // namespace atelier::io
