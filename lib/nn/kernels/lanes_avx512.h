#pragma once

#include <immintrin.h>

#include "nn/kernels/impl.h"

namespace atelier::nn::kernels {
namespace {

/// Sixteen lanes; needs AVX-512 F, BW, VL and DQ.
struct Avx512 {
  static constexpr std::int64_t width = 16;
  using reg = __m512;

  static __mmask16 mask(std::int64_t n) { return static_cast<__mmask16>((1U << n) - 1); }
  static reg widen_lanes(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
  static __m256i narrow_lanes(reg v) {  // to nearest, ties to even; NaN stays NaN
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    return _mm512_cvtepi32_epi16(_mm512_mask_set1_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), 0x7fc0));
  }

  static reg zero() { return _mm512_setzero_ps(); }
  static reg set1(float x) { return _mm512_set1_ps(x); }
  static reg load(const float* p) { return _mm512_loadu_ps(p); }
  static reg load(const bf16* p) { return widen_lanes(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static reg load_partial(const float* p, std::int64_t n) { return _mm512_maskz_loadu_ps(mask(n), p); }
  static reg load_partial(const bf16* p, std::int64_t n) { return widen_lanes(_mm256_maskz_loadu_epi16(mask(n), p)); }
  static void store(float* p, reg v) { _mm512_storeu_ps(p, v); }
  static void store(bf16* p, reg v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_lanes(v)); }
  static void store_partial(float* p, reg v, std::int64_t n) { _mm512_mask_storeu_ps(p, mask(n), v); }
  static void store_partial(bf16* p, reg v, std::int64_t n) { _mm256_mask_storeu_epi16(p, mask(n), narrow_lanes(v)); }
  static reg add(reg a, reg b) { return _mm512_add_ps(a, b); }
  static reg sub(reg a, reg b) { return _mm512_sub_ps(a, b); }
  static reg mul(reg a, reg b) { return _mm512_mul_ps(a, b); }
  static reg div(reg a, reg b) { return _mm512_div_ps(a, b); }
  static reg fma(reg a, reg b, reg c) { return _mm512_fmadd_ps(a, b, c); }
  static reg max(reg a, reg b) { return _mm512_max_ps(a, b); }
  static reg min(reg a, reg b) { return _mm512_min_ps(a, b); }
  static reg round(reg a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static reg pow2(reg n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
  }
  static float first(reg a) { return _mm512_cvtss_f32(a); }
  static float sum(reg a) { return _mm512_reduce_add_ps(a); }
};

}  // namespace
}  // namespace atelier::nn::kernels
