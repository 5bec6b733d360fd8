// Compiled with -mavx2 -mfma.
#include <immintrin.h>

#include "nn/kernels/quantised_impl.h"

namespace atelier::nn::kernels {
namespace {

/// Sixteen lanes as two halves. Products of bytes are exact: maddubs adds two of them in 16 bits, which 2 * 128 * 127 fits.
struct QuantisedAvx2 {
  struct ints {
    __m256i lower, upper;
  };
  struct floats {
    __m256 lower, upper;
  };
  using line = ints;
  static constexpr std::int64_t tile = 2;

  static __m256i load_half(const std::uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static __m256i four(const std::int8_t* x) {
    std::int32_t bits;
    __builtin_memcpy(&bits, x, 4);
    return _mm256_set1_epi32(bits);
  }
  /// Pairs of unsigned w times signed x, summed over fours.
  static __m256i sums_of_four(__m256i w, __m256i x) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1));
  }
  static __m256i signed_sums(__m256i w, __m256i x) {
    const __m256i centred = _mm256_xor_si256(w, _mm256_set1_epi8(-128));  // code - 128
    return sums_of_four(_mm256_abs_epi8(centred), _mm256_sign_epi8(x, centred));
  }

  static line load(const std::uint8_t* p) { return {load_half(p), load_half(p + 32)}; }
  static line low_halves(line a) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(a.lower, mask), _mm256_and_si256(a.upper, mask)};
  }
  static line high_halves(line a) { return low_halves({_mm256_srli_epi16(a.lower, 4), _mm256_srli_epi16(a.upper, 4)}); }
  static ints start(const std::int32_t*) { return start4(); }
  static ints start4() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static ints multiply_add8(line w, const std::int8_t* x, ints sum) {
    const __m256i xs = four(x);
    return {_mm256_add_epi32(sum.lower, signed_sums(w.lower, xs)),
            _mm256_add_epi32(sum.upper, signed_sums(w.upper, xs))};
  }
  static ints multiply_add4(line w, const std::int8_t* x, ints sum) {
    const __m256i xs = four(x);
    return {_mm256_add_epi32(sum.lower, sums_of_four(w.lower, xs)),
            _mm256_add_epi32(sum.upper, sums_of_four(w.upper, xs))};
  }
  static floats to_floats(ints a) { return {_mm256_cvtepi32_ps(a.lower), _mm256_cvtepi32_ps(a.upper)}; }
  static floats zero() { return set1(0); }
  static floats set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static floats add(floats a, floats b) { return {_mm256_add_ps(a.lower, b.lower), _mm256_add_ps(a.upper, b.upper)}; }
  static floats mul(floats a, floats b) { return {_mm256_mul_ps(a.lower, b.lower), _mm256_mul_ps(a.upper, b.upper)}; }
  static floats widen_u8(const std::uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return to_floats({_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))});
  }
  static floats widen_i8(const std::uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return to_floats({_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))});
  }
  static floats load_floats(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void store(float* p, floats a) {
    _mm256_storeu_ps(p, a.lower);
    _mm256_storeu_ps(p + 8, a.upper);
  }
};

}  // namespace

extern const QuantisedTable quantised_avx2_table;
const QuantisedTable quantised_avx2_table = QuantisedKernels<QuantisedAvx2>::make("avx2");

}  // namespace atelier::nn::kernels
