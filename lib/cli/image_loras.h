#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "cli/image_options.h"
#include "pipelines/image_adapters.h"

namespace atelier::cli {

/// A prompt without its <lora:...> tags, and the files that it and --lora ask for, --lora's first.
struct PromptLoras {
  std::string prompt;
  std::vector<pipelines::LoraRequest> loras;
};

/// Finds the files of --lora and of the prompt's tags (by name in --lora-dir and the folders in it) and reads their headers.
/// Error(usage): a tag or a scale that is none, a tag without --lora-dir; Error(no_input): a file that is not there, naming
/// the nearest; Error(data): one that is no safetensors or torch.save file.
PromptLoras prompt_loras(const ImageOptions& options);

/// What records, metadata and --manifest say of each: path, scales, how many modules changed, how many keys matched and how
/// many did not.
base::Json describe_loras(const std::vector<pipelines::LoraReport>& reports);

/// A line on stderr for each file with keys that match nothing; with `strict` Error(data) for the first.
void check_matches(const std::vector<pipelines::LoraReport>& reports, bool strict);

}  // namespace atelier::cli
