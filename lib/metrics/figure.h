#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace atelier::metrics {

/// A file that could not be used, and why, in one line without its path.
using Unreadable = std::pair<std::string, std::string>;

/// What every figure carries.
struct Figure {
  std::string metric;   ///< "fid", "kid", "lpips", "diversity", "clip-score", "preference"
  std::string variant;  ///< "pytorch-fid", "clean-fid", "alex", "clip", "pickscore", "imagereward", ...
  double value = 0;
  std::optional<std::pair<double, double>> interval;  ///< 95 %, by bootstrap; absent where too few pictures allow none
  std::int64_t n_real = 0, n_fake = 0;                ///< pictures (n_real 0 where there is no reference)
  std::string weights_sha256;
  std::vector<Unreadable> unreadable;  ///< files that were left out: listed, never dropped silently
  std::optional<double> deviation;     ///< of a KID: the standard deviation over its subsets
};

}  // namespace atelier::metrics
