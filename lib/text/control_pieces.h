#pragma once

#include <string_view>

namespace atelier::text {

/// Whether a user-defined piece steers a model, judged by its spelling alone. SentencePiece vocabularies hold two
/// sorts of user-defined pieces: plain text that must stay whole (runs of blanks and newlines, HTML tags, digits) and
/// markers (`<start_of_turn>`, `<unused5>`, `[@BOS@]`, `<|file_separator|>`). Anything in angle or square brackets
/// that is not a known HTML tag counts as a marker, so that a marker nobody has heard of yet is refused too.
bool is_marker(std::string_view piece);

}  // namespace atelier::text
