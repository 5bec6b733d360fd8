// Compiled as avx512bf16.cpp.
#include "nn/kernels/flash_gradient_impl.h"

namespace atelier::nn::kernels {
namespace {

/// Products of pairs by vdpbf16ps, weights rounded to bf16.
struct FlashBf16 {
  using type = bf16;
  static constexpr int pair = 2, degree = 4;
  static __m512 step(__m512 acc, const bf16* a, __m512 b) {
    int both;
    __builtin_memcpy(&both, a, 4);
    return _mm512_dpbf16_ps(acc, (__m512bh)_mm512_set1_epi32(both), (__m512bh)_mm512_castps_si512(b));
  }
  static float number(bf16 x) {
    const unsigned bits = static_cast<unsigned>(x) << 16;
    float y;
    __builtin_memcpy(&y, &bits, 4);
    return y;
  }
  static void put_pairs(bf16* to, const __m512* x) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x[0]));
    const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x[1])), 16);
    _mm512_storeu_si512(to, _mm512_or_si512(low, high));
  }
  static void put(bf16* to, __m512 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(x));
  }
  static void put_partial(bf16* to, __m512 x, std::int64_t n) {
    _mm256_mask_storeu_epi16(to, static_cast<__mmask16>((1U << n) - 1), (__m256i)_mm512_cvtneps_pbh(x));
  }
};

}  // namespace

extern const FlashKernels flash_avx512bf16_bf16;
const FlashKernels flash_avx512bf16_bf16 = Flash<FlashBf16>::make();

}  // namespace atelier::nn::kernels
