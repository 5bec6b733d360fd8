#pragma once

#include <span>
#include <string>
#include <string_view>

namespace atelier::base {

/// The candidate with the smallest edit distance to `word`, or "" where none is close (distance above a third of the
/// length): for "did you mean" hints.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

}  // namespace atelier::base
