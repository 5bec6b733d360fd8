#pragma once

#include <cstdint>
#include <string>

#include <c10/core/ScalarType.h>

#include "cli/plan.h"
#include "metrics/networks.h"

namespace atelier::cli {

/// What measuring pictures needs, from the headers of weights and of the first picture: for --plan and --max-ram. `batch`: pictures
/// computed at once, 0 for the metric's own choice. Error(no_input), Error(data) as the networks' own.

/// FID and KID of two folders (or files of features): the network, and the features of all pictures with their covariances.
Plan inception_plan(const std::string& file, const std::string& real, const std::string& fake, std::int64_t batch);
/// LPIPS of pairs, or with `all_pairs` of every two pictures of a folder, whose features are held meanwhile.
Plan lpips_plan(const std::string& file, const std::string& pictures, bool all_pairs, std::int64_t batch);
Plan clip_plan(const std::string& folder, c10::ScalarType dtype, std::int64_t batch);
/// PickScore and HPSv2, which are CLIP's, or ImageReward.
Plan preference_plan(const std::string& folder, metrics::PreferenceModel model, c10::ScalarType dtype,
                     std::int64_t batch);

}  // namespace atelier::cli
