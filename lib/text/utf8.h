#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace atelier::text {

bool is_utf8(std::string_view text);
/// Every maximal invalid part replaced by U+FFFD.
std::string replace_invalid(std::string_view text);
/// Length of the longest prefix that does not end inside a (so far valid) character.
std::size_t complete_prefix(std::string_view text);

}  // namespace atelier::text
