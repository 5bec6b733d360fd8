#pragma once

#include <cstdint>
#include <string_view>

namespace atelier::train {

/// CRC-32C (Castagnoli; RFC 3720 B.4).
std::uint32_t crc32c(std::string_view bytes);
/// As TFRecord stores it: rotated and shifted, so that a checksum of bytes that hold checksums stays good.
std::uint32_t masked_crc32c(std::string_view bytes);

}  // namespace atelier::train
