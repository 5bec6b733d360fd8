#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace atelier::test {

inline std::string text_data(const std::string& name) { return std::string(ATELIER_TEST_DATA) + "/text/" + name; }

inline std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

/// The input of a golden: "text", or "hex" where it is not UTF-8.
inline std::string golden_input(const base::Json& golden) {
  return golden.contains("hex") ? from_hex(golden["hex"].get<std::string>()) : golden["text"].get<std::string>();
}

}  // namespace atelier::test
