#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace atelier::text {

/// A stretch of a prompt with one weight.
struct PromptPart {
  std::string text;
  double weight = 1;
  bool chunk_break = false;  ///< BREAK: what follows begins a new chunk; `text` is empty
  bool operator==(const PromptPart&) const = default;
};

/// Reads A1111's emphasis: (x) multiplies the weight by 1.1, [x] divides it by 1.1, (x:1.5) multiplies by the number;
/// brackets nest; a backslash takes the next bracket or backslash as text; BREAK ends a chunk. A bracket without its
/// partner is text, for which `warnings` gets a line. Neighbours of equal weight are joined; an empty prompt has no parts.
std::vector<PromptPart> parse_emphasis(std::string_view prompt, std::vector<std::string>& warnings);

/// <lora:name>, <lora:name:scale> or <lora:name:text encoder scale:unet scale>.
struct LoraTag {
  std::string name;
  double text_scale = 1, unet_scale = 1;
  bool operator==(const LoraTag&) const = default;
};

/// Takes the tags out of a prompt and returns what is left of it. Error(usage) where a scale is no number or a name is
/// empty.
std::string take_lora_tags(std::string_view prompt, std::vector<LoraTag>& tags);

}  // namespace atelier::text
