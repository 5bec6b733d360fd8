#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/class_pictures.h"

namespace atelier::cli {

/// Language drift (DreamBooth, arXiv:2208.12242, section 3.3): what a model draws for a class's own name, before and after it
/// has learnt one of its kind.
class DriftReport {
 public:
  /// `folder`: gets drift/before-N.png, drift/after-N.png and drift.png. Picture N has seed + N.
  DriftReport(std::string folder, PromptPictures pictures, std::int64_t number, std::uint64_t seed);

  /// Draws those that the folder lacks, so that a run that is gone on with has those of the untrained model.
  void before(const pipelines::ImageModel& model) const;

  /// Draws them anew and writes drift.png, the upper row before, the lower after. {"path","pictures",
  /// "mean_absolute_difference"}, the latter of all channels, 0 to 255.
  base::Json after(const pipelines::ImageModel& model) const;

 private:
  std::string path(const char* when, std::size_t place) const;
  std::vector<std::uint64_t> seeds() const;

  std::string folder_;
  PromptPictures pictures_;
  std::size_t number_;
  std::uint64_t seed_;
};

}  // namespace atelier::cli
