#pragma once

#include <cstddef>
#include <cstdint>

namespace atelier::io {

/// A type of a GGUF file's tensors: rows of blocks, each of so many numbers in so many bytes.
struct GgufBlocks {
  std::uint32_t type;
  const char* name;
  std::int64_t elements, bytes;
  /// Numbers of `count` blocks in f32, in the arithmetic of ggml's own reference: products and sums in f32, none fused.
  void (*decode)(const std::byte* blocks, std::int64_t count, float* numbers);
};

/// Null for a type that cannot be read. Known are F32 (0), F16 (1), Q4_0 (2), Q4_1 (3), Q5_0 (6), Q5_1 (7), Q8_0 (8), Q4_K (12),
/// Q5_K (13), Q6_K (14) and BF16 (30).
const GgufBlocks* find_gguf_blocks(std::uint32_t type);

}  // namespace atelier::io
