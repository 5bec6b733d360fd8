#pragma once

#include <string>
#include <vector>

#include "pipelines/image_model.h"

namespace atelier::pipelines {

/// Writes a model as a diffusers folder: the UNet's weights, and with `text_encoders` theirs, as they stand in the model, in
/// `dtype`; everything else as the origin's folder has it. What a single file does not say (configurations, scheduler, CLIP's
/// vocabulary) is written as it was taken for it. Each file whole or not at all, model_index.json, which makes a folder a model,
/// last. Looks at the stop flag. Error(cannot_create), Error(io).
void write_image_folder(const std::string& folder, const ImageModelFiles& origin, const ImageModel& model,
                        bool text_encoders, at::ScalarType dtype);

}  // namespace atelier::pipelines
