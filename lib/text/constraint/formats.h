#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace atelier::text::constraint {

/// A regular expression for the whole of a string of this `format`; nothing for an unknown one. Each describes valid strings
/// only, not all of them: hostnames of up to six labels, no leap seconds, no quoted local parts in email addresses.
std::optional<std::string> format_pattern(std::string_view format);
std::vector<std::string> known_formats();

}  // namespace atelier::text::constraint
