#include "cli/text_lines.h"

#include <algorithm>

#include <fmt/format.h>

#include "io/file_system.h"

namespace atelier::cli {

void for_each_line(const std::string& path, std::size_t max_bytes,
                   const std::function<void(const std::string& line, const std::string& where)>& each) {
  const std::string bytes = io::read_file(path, max_bytes);
  std::size_t number = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
    std::string line = bytes.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) each(line, fmt::format("{}: line {}", path, number));
  }
}

}  // namespace atelier::cli
