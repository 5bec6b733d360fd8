#include "io/gguf_blocks.h"

#include <cstring>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

// Numbers of a block are q d (_0), q d + m (_1), or, in the types with K, q (scale d) - (least m): 256 numbers in groups of 32
// (16 in Q6_K), each group with a scale of its own. The low bits of two numbers share a byte; higher bits lie apart.
namespace atelier::io {
namespace {

using Byte = std::uint8_t;

float half(const Byte* p) {
  std::uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return c10::Half(bits, c10::Half::from_bits());
}

/// Calls block(bytes, numbers) for each.
template <std::int64_t elements, std::int64_t bytes, typename Block>
void each(const std::byte* blocks, std::int64_t count, float* numbers, const Block& block) {
  for (std::int64_t i = 0; i < count; ++i)
    block(reinterpret_cast<const Byte*>(blocks) + i * bytes, numbers + i * elements);
}

void f32(const std::byte* blocks, std::int64_t count, float* numbers) {
  std::memcpy(numbers, blocks, static_cast<std::size_t>(count) * sizeof(float));
}

void f16(const std::byte* blocks, std::int64_t count, float* numbers) {
  each<1, 2>(blocks, count, numbers, [](const Byte* p, float* y) { *y = half(p); });
}

void bf16(const std::byte* blocks, std::int64_t count, float* numbers) {
  each<1, 2>(blocks, count, numbers, [](const Byte* p, float* y) {
    const std::uint32_t bits = static_cast<std::uint32_t>(p[0]) << 16 | static_cast<std::uint32_t>(p[1]) << 24;
    std::memcpy(y, &bits, sizeof bits);
  });
}

void q4_0(const std::byte* blocks, std::int64_t count, float* numbers) {
  each<32, 18>(blocks, count, numbers, [](const Byte* p, float* y) {
    const float d = half(p);
    for (int i = 0; i < 16; ++i) {
      y[i] = static_cast<float>((p[2 + i] & 15) - 8) * d;
      y[i + 16] = static_cast<float>((p[2 + i] >> 4) - 8) * d;
    }
  });
}

void q4_1(const std::byte* blocks, std::int64_t count, float* numbers) {
  each<32, 20>(blocks, count, numbers, [](const Byte* p, float* y) {
    const float d = half(p), m = half(p + 2);
    for (int i = 0; i < 16; ++i) {
      y[i] = static_cast<float>(p[4 + i] & 15) * d + m;
      y[i + 16] = static_cast<float>(p[4 + i] >> 4) * d + m;
    }
  });
}

/// The fifth bit of number i, of 32 bits at p, in its place.
int fifth_bit(const Byte* p, int i) { return (p[i / 8] >> (i % 8) & 1) << 4; }

void q5_0(const std::byte* blocks, std::int64_t count, float* numbers) {
  each<32, 22>(blocks, count, numbers, [](const Byte* p, float* y) {
    const float d = half(p);
    for (int i = 0; i < 16; ++i) {
      y[i] = static_cast<float>(((p[6 + i] & 15) | fifth_bit(p + 2, i)) - 16) * d;
      y[i + 16] = static_cast<float>(((p[6 + i] >> 4) | fifth_bit(p + 2, i + 16)) - 16) * d;
    }
  });
}

void q5_1(const std::byte* blocks, std::int64_t count, float* numbers) {
  each<32, 24>(blocks, count, numbers, [](const Byte* p, float* y) {
    const float d = half(p), m = half(p + 2);
    for (int i = 0; i < 16; ++i) {
      y[i] = static_cast<float>((p[8 + i] & 15) | fifth_bit(p + 4, i)) * d + m;
      y[i + 16] = static_cast<float>((p[8 + i] >> 4) | fifth_bit(p + 4, i + 16)) * d + m;
    }
  });
}

void q8_0(const std::byte* blocks, std::int64_t count, float* numbers) {
  each<32, 34>(blocks, count, numbers, [](const Byte* p, float* y) {
    const float d = half(p);
    for (int i = 0; i < 32; ++i) y[i] = static_cast<float>(static_cast<std::int8_t>(p[2 + i])) * d;
  });
}

/// Scale and least value of group g (0 to 7) in six bits each: the first four of both lie whole in 8 bytes, whose upper two bits
/// are those of the last four, with the lower four bits of these in 4 bytes more.
struct Group {
  float scale, least;
  Group(const Byte* p, int g, float d, float m) {
    const int s = g < 4 ? p[g] & 63 : (p[g + 4] & 15) | (p[g - 4] >> 6) << 4;
    const int l = g < 4 ? p[g + 4] & 63 : p[g + 4] >> 4 | (p[g] >> 6) << 4;
    scale = d * static_cast<float>(s);
    least = m * static_cast<float>(l);
  }
};

void q4_k(const std::byte* blocks, std::int64_t count, float* numbers) {
  each<256, 144>(blocks, count, numbers, [](const Byte* p, float* y) {
    const float d = half(p), m = half(p + 2);
    for (int g = 0; g < 8; ++g) {
      const Group group(p + 4, g, d, m);
      const Byte* const q = p + 16 + g / 2 * 32;
      for (int i = 0; i < 32; ++i)
        y[32 * g + i] = group.scale * static_cast<float>(g % 2 == 0 ? q[i] & 15 : q[i] >> 4) - group.least;
    }
  });
}

void q5_k(const std::byte* blocks, std::int64_t count, float* numbers) {
  each<256, 176>(blocks, count, numbers, [](const Byte* p, float* y) {
    const float d = half(p), m = half(p + 2);
    const Byte* const high = p + 16;
    for (int g = 0; g < 8; ++g) {
      const Group group(p + 4, g, d, m);
      const Byte* const q = p + 48 + g / 2 * 32;
      for (int i = 0; i < 32; ++i) {
        const int low = g % 2 == 0 ? q[i] & 15 : q[i] >> 4;
        y[32 * g + i] = group.scale * static_cast<float>(low | (high[i] >> g & 1) << 4) - group.least;
      }
    }
  });
}

void q6_k(const std::byte* blocks, std::int64_t count, float* numbers) {
  each<256, 210>(blocks, count, numbers, [](const Byte* p, float* y) {
    const float d = half(p + 208);
    // Of each half block: 64 bytes of low bits, in whose lower and upper parts the quarters 0 and 1, then 2 and 3 lie; 32 bytes
    // with two bits of each quarter.
    for (int part = 0; part < 2; ++part)
      for (int quarter = 0; quarter < 4; ++quarter)
        for (int i = 0; i < 32; ++i) {
          const Byte low = p[64 * part + 32 * (quarter % 2) + i], high = p[128 + 32 * part + i];
          const int q = ((quarter < 2 ? low & 15 : low >> 4) | (high >> (2 * quarter) & 3) << 4) - 32;
          const auto scale = static_cast<std::int8_t>(p[192 + 8 * part + 2 * quarter + i / 16]);
          y[128 * part + 32 * quarter + i] = d * static_cast<float>(scale) * static_cast<float>(q);
        }
  });
}

constexpr GgufBlocks kBlocks[] = {
    {0, "F32", 1, 4, f32},        {1, "F16", 1, 2, f16},        {2, "Q4_0", 32, 18, q4_0}, {3, "Q4_1", 32, 20, q4_1},
    {6, "Q5_0", 32, 22, q5_0},    {7, "Q5_1", 32, 24, q5_1},    {8, "Q8_0", 32, 34, q8_0}, {12, "Q4_K", 256, 144, q4_k},
    {13, "Q5_K", 256, 176, q5_k}, {14, "Q6_K", 256, 210, q6_k}, {30, "BF16", 1, 2, bf16},
};

}  // namespace

const GgufBlocks* find_gguf_blocks(std::uint32_t type) {
  for (const GgufBlocks& blocks : kBlocks)
    if (blocks.type == type) return &blocks;
  return nullptr;
}

}  // namespace atelier::io
