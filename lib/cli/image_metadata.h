#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "cli/image_options.h"
#include "image/metadata.h"
#include "pipelines/image_model.h"
#include "schedulers/samplers.h"

namespace atelier::cli {

/// Where a run's pictures go: "" is out.png, "-" stdout. %d or %03d stands for `number`, %% for a percent sign; without one
/// `number` is put before the ending where there are `several`. Error(usage) naming `flag` for another % in it.
std::string picture_path(const std::string& pattern, std::int64_t number, bool several, const char* flag = "--output");

/// The texts that travel with one picture: A1111's "parameters", and "atelier" with the manifest of its making. `options`
/// have the picture's own seed and size. `sampler` says what made it, `adapters` with which (records' list).
image::Metadata picture_metadata(const ImageOptions& options, ImageTask task, const pipelines::ImageModelFiles& model,
                                 const schedulers::SamplerChoice& sampler, const base::Json& adapters);

/// The settings that a picture's metadata hold, as a job's fields: of "atelier", else of A1111's "parameters".
/// Error(no_input), Error(data) where it has neither; a picture of another tool is Error(usage).
base::Json settings_of_picture(const std::string& path, ImageTask task);

}  // namespace atelier::cli
