#pragma once

#include "cli/common.h"
#include "cli/plan.h"
#include "pipelines/text_model.h"

namespace atelier::cli {

/// The model that --model, --device and --dtype name, its headers only; noted for --manifest.
pipelines::TextModelFiles open_text_files(const CommonOptions& options);

/// What a run of `batch` sequences of `positions` tokens needs.
Plan text_plan(const CommonOptions& options, const pipelines::TextModelFiles& files, std::int64_t positions,
               std::int64_t batch);

}  // namespace atelier::cli
