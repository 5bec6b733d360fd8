#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "metrics/metrics.h"

namespace atelier::cli {

/// One line of a file of prompts.
struct BenchPrompt {
  std::string text;
  std::string file;                   ///< name of the picture that it belongs to; "": by its place
  std::optional<std::uint64_t> seed;  ///< instead of the run's
};

/// Reads --prompts: a prompt on each line, or with the ending .jsonl an object on each line, {"prompt", "seed", "file"}, the
/// latter two optional ("text" and "caption" mean the prompt too, "path" and "file_name" the picture; other keys are of no
/// concern here). Blank lines do not count. Error(no_input), Error(data) naming the line; a file without a prompt is Error(data).
std::vector<BenchPrompt> read_prompts(const std::string& path);

/// The pictures of a folder with their prompts: by name where the prompts have one, else by place, and then there must be as
/// many prompts as pictures. Files that are pictures of a kind that cannot be read are among them: whoever reads them lists them.
/// Error(data) where they do not match.
std::vector<metrics::Captioned> with_prompts(const std::string& folder, const std::string& prompts);

}  // namespace atelier::cli
