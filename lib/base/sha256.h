#pragma once

#include <string>
#include <string_view>

namespace atelier::base {

/// Lower-case hex SHA-256 of a byte string.
std::string sha256_hex(std::string_view bytes);

/// Of a file's contents, read in blocks; looks at the stop flag. Error(no_input) or Error(io).
std::string sha256_file(const std::string& path);

}  // namespace atelier::base
