#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/single_file/layout.h"

namespace atelier::models::single_file {

/// A part of a checkpoint under other names. `names` are all that a model may ask for; `locate` tells where each lies,
/// without `prefix`, and "" where it lies nowhere.
std::shared_ptr<io::WeightSource> renamed_source(std::shared_ptr<io::WeightSource> file, const std::string& prefix,
                                                 const std::vector<std::string>& names,
                                                 const std::function<Stored(const std::string&)>& locate);

}  // namespace atelier::models::single_file
