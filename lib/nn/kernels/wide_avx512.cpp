// Compiled as avx512.cpp.
#include "nn/kernels/flash_gradient_impl.h"
#include "nn/kernels/wide_product.h"

namespace atelier::nn::kernels {
namespace {

constexpr std::int64_t wide_depth = 320;  ///< of a packed panel, which then stays in the second cache

struct WideF32 {
  using type = float;
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
};
struct WideF16 {
  using type = std::uint16_t;
  static __m512 load(const std::uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
};
struct WideBf16 {
  using type = std::uint16_t;
  static __m512 load(const std::uint16_t* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
  }
};

/// 16 rows of 16 numbers, `from` apart, as 16 columns, `to` apart.
template <class W>
inline void wide_transpose(const typename W::type* w, std::int64_t from, float* packed, std::int64_t to) {
  __m512 r[16], t[16];
  for (int i = 0; i < 16; ++i) r[i] = W::load(w + i * from);
  for (int i = 0; i < 16; i += 2) {  // pairs of rows
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  const auto low = [](__m512 a, __m512 b) { return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); };
  const auto high = [](__m512 a, __m512 b) { return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); };
  for (int i = 0; i < 16; i += 4) {  // fours: lane q of r[i + j] has column 4 q + j of rows i to i + 3
    r[i] = low(t[i], t[i + 2]);
    r[i + 1] = high(t[i], t[i + 2]);
    r[i + 2] = low(t[i + 1], t[i + 3]);
    r[i + 3] = high(t[i + 1], t[i + 3]);
  }
  for (int j = 0; j < 4; ++j) {  // quarters of registers
    const __m512 a = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x88), b = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xdd);
    const __m512 c = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x88), d = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xdd);
    _mm512_storeu_ps(packed + j * to, _mm512_shuffle_f32x4(a, c, 0x88));
    _mm512_storeu_ps(packed + (8 + j) * to, _mm512_shuffle_f32x4(a, c, 0xdd));
    _mm512_storeu_ps(packed + (4 + j) * to, _mm512_shuffle_f32x4(b, d, 0x88));
    _mm512_storeu_ps(packed + (12 + j) * to, _mm512_shuffle_f32x4(b, d, 0xdd));
  }
}

/// Columns [column, column + width) of depth [begin, end), a row of `width` for each depth.
template <class W>
inline void wide_pack(const WideProductArgs& a, std::int64_t column, std::int64_t width, std::int64_t begin, std::int64_t end, float* packed) {
  const auto* w = static_cast<const typename W::type*>(a.w);
  if (!a.transposed) {
    for (std::int64_t k = begin; k < end; ++k)
      for (std::int64_t c = 0; c < width; c += lanes) _mm512_storeu_ps(packed + (k - begin) * width + c, W::load(w + k * a.columns + column + c));
    return;
  }
  for (std::int64_t c = 0; c < width; c += lanes)
    for (std::int64_t k = begin; k < end; k += lanes)
      wide_transpose<W>(w + (column + c) * a.depth + k, a.depth, packed + (k - begin) * width + c, width);
}

template <class W>
inline void wide_columns(const WideProductArgs& a, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t width, float* packed) {
  float* y = a.y + row * a.columns + column;
  if (a.bias != nullptr)
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < width; c += lanes) _mm512_storeu_ps(y + r * a.columns + c, _mm512_loadu_ps(a.bias + column + c));
  for (std::int64_t begin = 0; begin < a.depth; begin += wide_depth) {
    const std::int64_t end = begin + wide_depth < a.depth ? begin + wide_depth : a.depth;
    wide_pack<W>(a, column, width, begin, end, packed);
    const FlashSteps steps{a.depth, 1};
    const float* x = a.x + row * a.depth + begin;
    if (begin == 0 && a.bias == nullptr)
      flash_product<FlashFloat, false>(rows, width / lanes, x, steps, packed, width, end - begin, y, a.columns);
    else
      flash_product<FlashFloat, true>(rows, width / lanes, x, steps, packed, width, end - begin, y, a.columns);
  }
}

void compute(const WideProductArgs& a, std::int64_t row, std::int64_t last_row, std::int64_t panel, std::int64_t last_panel, float* scratch) {
  for (std::int64_t p = panel; p < last_panel; ++p) {
    const std::int64_t column = p * wide_panel, width = a.columns - column < wide_panel ? a.columns - column : wide_panel;
    switch (a.type) {
      case WideProductArgs::Weight::float32: wide_columns<WideF32>(a, row, last_row - row, column, width, scratch); break;
      case WideProductArgs::Weight::float16: wide_columns<WideF16>(a, row, last_row - row, column, width, scratch); break;
      case WideProductArgs::Weight::bfloat16: wide_columns<WideBf16>(a, row, last_row - row, column, width, scratch); break;
    }
  }
}

}  // namespace

extern const WideProduct wide_avx512;
const WideProduct wide_avx512{wide_panel * wide_depth, compute};

}  // namespace atelier::nn::kernels
