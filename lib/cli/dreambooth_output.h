#pragma once

#include <cstdint>
#include <string>

#include "cli/dreambooth_options.h"
#include "cli/image_trainee.h"
#include "train/image/dataset.h"

namespace atelier::cli {

/// Refuses, before anything is computed, an output that no run in the run folder has made, unless --overwrite is given:
/// Error(cannot_create); a LoRA file whose name does not end in .safetensors: Error(usage).
void check_dreambooth_output(const DreamBoothOptions& options);

/// Error(cannot_create): the model's own folder.
void check_full_output(const DreamBoothOptions& options, const pipelines::ImageModelFiles& files);

/// Writes what was trained, as it stands in the trainee: a diffusers folder, or a LoRA file.
void write_dreambooth_output(const DreamBoothOptions& options, const ImageTraineeFiles& files,
                             const ImageTrainee& trainee, const train::image::ImageDataset& data, std::uint64_t seed,
                             std::int64_t steps);

bool dreambooth_output_is_there(const DreamBoothOptions& options);

/// Takes the output away, a folder's model_index.json first, and the pictures of the drift report; class pictures stay.
void remove_dreambooth_output(const DreamBoothOptions& options);

}  // namespace atelier::cli
