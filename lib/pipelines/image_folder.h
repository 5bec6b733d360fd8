#pragma once

#include <string>
#include <vector>

#include "pipelines/image_model.h"

namespace atelier::pipelines {

/// Writes a model as a diffusers folder: the UNet's weights, and with `text_encoders` theirs, as they stand in the model, in
/// `dtype`; everything else as the origin's folder has it. Each file whole or not at all, model_index.json, which makes a folder
/// a model, last. The origin must be a folder (can_write_folder). Looks at the stop flag. Error(cannot_create), Error(io).
void write_image_folder(const std::string& folder, const ImageModelFiles& origin, const ImageModel& model,
                        bool text_encoders, at::ScalarType dtype);

/// A single file does not hold what a folder has beside the weights.
bool can_write_folder(const ImageModelFiles& origin);

}  // namespace atelier::pipelines
