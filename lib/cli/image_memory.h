#pragma once

#include "cli/plan.h"
#include "pipelines/image_plan.h"

namespace atelier::cli {

/// What --plan prints of a picture model and what goes with it, without --max-ram.
Plan image_plan(const pipelines::ImageModelFiles& files, const pipelines::ImagePlanRequest& request);

}  // namespace atelier::cli
