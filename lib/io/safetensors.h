#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace atelier::io {

/// Every dtype of the safetensors format; sub-byte types are packed (F4: two to a byte).
enum class DType : std::uint8_t {
  BOOL,
  F4,
  F6_E2M3,
  F6_E3M2,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E4M3FNUZ,
  F8_E5M2FNUZ,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  C64,
  F64,
  I64,
  U64
};

std::string_view dtype_name(DType dtype);
int dtype_bits(DType dtype);

struct TensorInfo {
  std::string name;
  DType dtype{};
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  ///< first byte, counted from the start of the file
  std::uint64_t end = 0;    ///< one past the last byte

  std::uint64_t bytes() const { return end - begin; }
  std::int64_t elements() const;
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;              ///< by offset
  std::map<std::string, std::string> metadata;  ///< `__metadata__`
};

/// Parses and checks the header of a whole file.
///
/// The format: 8 bytes little-endian N, then N bytes of JSON, then the data. Checked: N at most 100,000,000 and inside the
/// file (every sum and product against overflow); UTF-8; a JSON object, blanks before and after it allowed; each tensor
/// exactly dtype, shape, data_offsets; a known dtype; unsigned shape; begin <= end, and bytes = product of shape x bits / 8;
/// sorted by offset the tensors start at 0 and touch one another, so no hole and no overlap; the last one ends with the
/// file; `__metadata__` maps strings to strings; no key twice. Depth of nesting is capped, so no file can exhaust the stack.
/// `name` (the file's) starts every error: Error(data).
/// Reference: https://huggingface.co/docs/safetensors
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, std::string_view name);

struct TensorBytes {
  TensorInfo info;  ///< begin and end are ignored and computed anew
  std::span<const std::byte> data;
};

/// Writes a file atomically: tensors ordered by descending alignment then name as the reference does, header padded with
/// blanks to 8 bytes. Error(cannot_create), Error(io).
void write_safetensors(const std::string& path, std::span<const TensorBytes> tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace atelier::io
