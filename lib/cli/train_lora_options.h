#pragma once

#include "cli/image_data_options.h"
#include "cli/image_train_options.h"

namespace atelier::cli {

/// Everything that sd-train-lora can be told (CLI.md, "sd-train-lora").
struct TrainLoraOptions {
  ImageTrainOptions train;
  ImageDataOptions data;
};

void define_train_lora_flags(CLI::App& app, TrainLoraOptions& options);

/// Flags that do not go together, or have no use without another: Error(usage).
void check_train_lora_flags(const TrainLoraOptions& options);

}  // namespace atelier::cli
