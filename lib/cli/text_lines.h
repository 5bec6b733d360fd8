#pragma once

#include <cstddef>
#include <functional>
#include <string>

namespace atelier::cli {

/// Calls `each` for every line of a file that is not blank, without its line end; `where` is "FILE: line N", for errors. Error(no_input)
/// where the file cannot be read, Error(data) where it has more than `max_bytes`.
void for_each_line(const std::string& path, std::size_t max_bytes,
                   const std::function<void(const std::string& line, const std::string& where)>& each);

}  // namespace atelier::cli
