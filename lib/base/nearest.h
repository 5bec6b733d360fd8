#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace atelier::base {

/// Optimal string alignment distance: insertions, deletions, substitutions, and swaps of neighbours, each 1; of bytes.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate with the smallest edit distance to `word`, or "" where none is close (distance above a third of the
/// length): for "did you mean" hints.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

}  // namespace atelier::base
