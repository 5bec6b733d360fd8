#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace atelier::test {

/// Bytes of a file with that header and that many bytes of data after it; `length` replaces the true header length.
inline std::string safetensors_file(std::string_view header, std::size_t data_bytes = 0,
                                    std::optional<std::uint64_t> length = {}) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(length.value_or(header.size()) >> (8 * i));
  file += header;
  for (std::size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i * 7 + 1);
  return file;
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace atelier::test
