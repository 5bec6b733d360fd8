#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace atelier::image {

/// The text that A1111 puts into pictures:
///
///     PROMPT
///     Negative prompt: NEGATIVE
///     Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, ...
///
/// Both prompts may have several lines; without a negative prompt its line is left out.
struct Parameters {
  std::string prompt;
  std::string negative_prompt;
  std::vector<std::pair<std::string, std::string>> fields;  ///< in order, values unquoted

  /// The value of a field ("Steps"), or null.
  const std::string* find(std::string_view key) const;
  bool operator==(const Parameters&) const = default;
};

/// Values that hold a comma, a colon or a line break, or that look quoted, are quoted as JSON strings, as A1111 does.
std::string format_parameters(const Parameters& parameters);

/// Reads it as A1111 does: the last line holds the fields if at least three of them are found there, else it belongs
/// to the prompt. Fields are `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`; of one that comes twice the last
/// value counts. Never fails: any text is a prompt. Time and memory are linear in the text.
Parameters parse_parameters(std::string_view text);

}  // namespace atelier::image
