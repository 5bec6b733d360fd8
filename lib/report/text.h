#pragma once

#include <string>
#include <string_view>

namespace atelier::report {

/// For HTML and SVG, in text and in attributes: & < > " ' are written as entities, what is not UTF-8 and control characters but
/// tab and newline (XML has none of them) as U+FFFD.
std::string escape(std::string_view text);

/// RFC 4648, with padding.
std::string base64(std::string_view bytes);

/// A number as tables show it: four significant digits, no exponent between 0.0001 and a million ("0.0123", "31.26", "4821");
/// "-" where it is not finite.
std::string number(double value);

/// "5.9 GiB", "512 MiB".
std::string bytes(double value);

}  // namespace atelier::report
