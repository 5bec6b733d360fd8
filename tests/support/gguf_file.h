#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace atelier::test {

/// Bytes of a little-endian number.
template <typename T>
std::string little_endian(T value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i)
    bytes += static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i) & 0xFF);
  return bytes;
}

/// Builds a GGUF file; what it writes can be replaced piece by piece.
struct GgufBuilder {
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;
  std::string metadata, tensors, data;
  std::uint64_t entries = 0, count = 0;

  static std::string text(std::string_view value) {
    return little_endian<std::uint64_t>(value.size()) + std::string(value);
  }

  GgufBuilder& entry(std::string_view key, std::uint32_t type, const std::string& value) {
    metadata += text(key) + little_endian(type) + value;
    ++entries;
    return *this;
  }
  GgufBuilder& add(std::string_view key, std::uint32_t value) { return entry(key, 4, little_endian(value)); }
  GgufBuilder& add(std::string_view key, float value) {
    return entry(key, 6, little_endian(std::bit_cast<std::uint32_t>(value)));
  }
  GgufBuilder& add(std::string_view key, std::string_view value) { return entry(key, 8, text(value)); }
  GgufBuilder& add(std::string_view key, bool value) { return entry(key, 7, std::string(1, value ? '\1' : '\0')); }
  GgufBuilder& list(std::string_view key, std::uint32_t type, std::uint64_t members, const std::string& values) {
    return entry(key, 9, little_endian(type) + little_endian(members) + values);
  }

  /// Dimensions with the fastest first, as the file has them.
  GgufBuilder& tensor_info(std::string_view name, const std::vector<std::uint64_t>& sizes, std::uint32_t type,
                           std::uint64_t offset) {
    tensors += text(name) + little_endian(static_cast<std::uint32_t>(sizes.size()));
    for (const std::uint64_t size : sizes) tensors += little_endian(size);
    tensors += little_endian(type) + little_endian(offset);
    ++count;
    return *this;
  }
  GgufBuilder& tensor(std::string_view name, const std::vector<std::uint64_t>& sizes, std::uint32_t type,
                      std::string_view bytes) {
    pad(data);
    tensor_info(name, sizes, type, data.size());
    data += bytes;
    return *this;
  }

  std::string file() const {
    std::string all =
        "GGUF" + little_endian(version) + little_endian(count) + little_endian(entries) + metadata + tensors;
    pad(all);
    return all + data;
  }

 private:
  void pad(std::string& bytes) const {
    while (bytes.size() % alignment != 0) bytes += '\0';
  }
};

}  // namespace atelier::test
