#pragma once

#include <map>
#include <string>

#include "cli/image_trainee.h"
#include "cli/image_training.h"

namespace atelier::cli {

/// Error(usage): the output's name does not end in .safetensors. Error(cannot_create): a file is there that no run in the run folder
/// has made, unless --overwrite is given.
void check_lora_output(const ImageTrainOptions& options);

/// What kohya's scripts and UIs want to know of a file: the ss_ and modelspec. keys. Without times of day, so that the same run
/// writes the same bytes.
std::map<std::string, std::string> lora_metadata(const ImageTrainOptions& options, const ImageTraineeFiles& files,
                                                 const train::image::ImageDataset& data, std::uint64_t seed,
                                                 std::int64_t steps);

/// Writes what was trained as it stands in the trainee, whole or not at all: an adapter, or the vectors of a textual inversion
/// (diffusers' layout, one tensor by the word's name; with two text encoders clip_l and clip_g).
void write_lora_output(const std::string& path, const ImageTrainOptions& options, const ImageTraineeFiles& files,
                       const ImageTrainee& trainee, const std::map<std::string, std::string>& metadata);

}  // namespace atelier::cli
