#pragma once

#include <cstdint>
#include <vector>

#include "pipelines/control.h"
#include "pipelines/image_model.h"
#include "pipelines/text_model.h"
#include "pipelines/upscaling.h"

namespace atelier::pipelines {

/// What is to be made, as far as memory is concerned.
struct ImagePlanRequest {
  std::int64_t width = 0, height = 0;  ///< of the largest pass
  std::int64_t batch = 1;
  bool tiled_vae = false;
  std::vector<ControlNetFiles> controls;
  const UpscalerFiles* upscaler = nullptr;  ///< null: none
  std::int64_t upscale_tile = 0;
  std::int64_t finished_width = 0, finished_height = 0;  ///< of the pictures that it enlarges
};

/// What --plan prints.
MemoryPlan plan_memory(const ImageModelFiles& files, const ImagePlanRequest& request);

}  // namespace atelier::pipelines
