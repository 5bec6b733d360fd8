#include "cli/image_networks.h"

#include <utility>
#include <vector>

namespace atelier::cli {

void ImageNetworks::attach(ImageJob& job) {
  std::vector<std::string> paths;
  for (const ControlRequest& control : job.controls()) paths.push_back(control.network);
  JobNetworks networks{controls_.use(paths), nullptr};
  const std::string& path = job.options().upscale;
  if (path != upscaler_path_) upscaler_.reset();
  if (!path.empty() && !upscaler_)
    upscaler_ = pipelines::Upscaler::load(pipelines::UpscalerFiles::open(path), files_.device);
  upscaler_path_ = path;
  networks.upscaler = upscaler_;
  job.attach(std::move(networks));
}

}  // namespace atelier::cli
