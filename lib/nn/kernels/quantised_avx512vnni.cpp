// Compiled as avx512.cpp, with -mavx512vnni.
#include <immintrin.h>

#include "nn/kernels/quantised_impl.h"

namespace atelier::nn::kernels {
namespace {

/// Sixteen lanes; vpdpbusd adds four products of an unsigned and a signed byte to each.
struct Vnni {
  using ints = __m512i;
  using floats = __m512;
  using line = __m512i;
  static constexpr std::int64_t tile = 8;

  /// Four bytes of x times those of each lane of w. As assembly, for gcc 12 takes a register and an instruction more to broadcast.
  static ints dot(line w, const std::int8_t* x, ints sum) {
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*reinterpret_cast<const std::int8_t(*)[4]>(x)));
    return sum;
  }
  static line load(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  static line low_halves(line a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
  static line high_halves(line a) { return low_halves(_mm512_srli_epi16(a, 4)); }
  /// The codes are unsigned: 128 for each is taken off beforehand.
  static ints start(const std::int32_t* first) { return _mm512_set1_epi32(*first); }
  static ints start4() { return _mm512_setzero_si512(); }
  static ints multiply_add8(line w, const std::int8_t* x, ints sum) { return dot(w, x, sum); }
  static ints multiply_add4(line w, const std::int8_t* x, ints sum) { return dot(w, x, sum); }
  static floats to_floats(ints a) { return _mm512_cvtepi32_ps(a); }
  static floats zero() { return _mm512_setzero_ps(); }
  static floats set1(float x) { return _mm512_set1_ps(x); }
  static floats add(floats a, floats b) { return _mm512_add_ps(a, b); }
  static floats mul(floats a, floats b) { return _mm512_mul_ps(a, b); }
  static floats widen_u8(const std::uint8_t* p) {
    return to_floats(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static floats widen_i8(const std::uint8_t* p) {
    return to_floats(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static floats load_floats(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, floats a) { _mm512_storeu_ps(p, a); }
};

}  // namespace

extern const QuantisedTable quantised_avx512vnni_table;
const QuantisedTable quantised_avx512vnni_table = QuantisedKernels<Vnni>::make("avx512vnni");

}  // namespace atelier::nn::kernels
