#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace atelier::cli {

/// A value PATH[:SCALE] of a flag.
struct ScaledPath {
  std::string path;
  double scale = 1;
};

/// A path with a colon that is there (a file or, with `folder`, a folder) is a path and no scale. Error(usage): what follows the
/// last colon is no number; Error(no_input): nothing there by that name. `flag` starts the messages ("--lora").
ScaledPath parse_scaled_path(const std::string& flag, const std::string& text, bool folder);

/// A finite number, also one with a plus sign as the flags' own numbers may have; nothing where the text is none.
std::optional<double> parse_scale(std::string_view text);

/// Error(usage) for a strength that nobody can mean. `what` starts the message.
void check_adapter_scale(double scale, const std::string& what);

}  // namespace atelier::cli
