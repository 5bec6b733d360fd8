#pragma once

#include <memory>
#include <string>

#include "cli/image_job.h"
#include "pipelines/control.h"
#include "pipelines/upscaling.h"

namespace atelier::cli {

/// The ControlNets and the upscaler of a run's jobs: loaded when a job needs them, and kept while the next one does too.
class ImageNetworks {
 public:
  /// `files` must outlive this, and be opened before the first attach().
  explicit ImageNetworks(const pipelines::ImageModelFiles& files) : files_(files), controls_(files) {}

  /// Gives a job what it needs.
  void attach(ImageJob& job);

 private:
  const pipelines::ImageModelFiles& files_;
  pipelines::ControlNets controls_;
  std::shared_ptr<const pipelines::Upscaler> upscaler_;
  std::string upscaler_path_;
};

}  // namespace atelier::cli
