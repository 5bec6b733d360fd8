#pragma once

#include <string>
#include <vector>

#include "cli/finetune_model.h"
#include "cli/finetune_options.h"

namespace atelier::cli {

/// OUTPUT/merged.
std::string merged_folder(const FinetuneOptions& options);

/// Refuses, before anything is computed, an output folder that is the model's own, or the adapter's that the run begins with,
/// or that holds an adapter or a model and no run that made it: Error(cannot_create). With --overwrite only the former.
void check_output_folder(const FinetuneOptions& options, const std::string& model_folder);

/// Writes what was trained, as it stands in the trainee: an adapter in PEFT's layout, or a model folder; with --merge the merged
/// model besides. Each file whole or not at all; the configuration, which makes a folder one, is the last of each.
void write_output(const FinetuneOptions& options, const TraineeFiles& files, Trainee& trainee);

/// Whether write_output has been through.
bool output_is_there(const FinetuneOptions& options);

/// The files of the output that are there.
std::vector<std::string> output_files(const FinetuneOptions& options);

/// Takes the output away, configurations first; checkpoints and records stay.
void remove_output(const FinetuneOptions& options);

}  // namespace atelier::cli
