#pragma once

#include <optional>
#include <string>

#include "text/jinja/value.h"

namespace atelier::text::jinja {

/// Python's str(): what `{{ value }}` prints. Text keeps its trust byte by byte; a container is trusted where all in
/// it is.
TrackedText to_text(const Value& value);

/// Python's repr() of a float: the shortest digits that read back the same.
std::string format_real(double value);

struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<std::string> indent;  ///< what one level is indented by; nothing: one line
  std::string item_separator = ", ", key_separator = ": ";
  bool sort_keys = false;
};
/// Python's json.dumps. Untrusted as a whole where anything in it is. Failure for values that JSON has not.
TrackedText to_json(const Value& value, const JsonStyle& style);

}  // namespace atelier::text::jinja
