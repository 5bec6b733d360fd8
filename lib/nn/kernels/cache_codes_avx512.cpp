// Compiled as avx512.cpp.
#include "nn/kernels/cache_codes_impl.h"
#include "nn/kernels/lanes_avx512.h"

namespace atelier::nn::kernels {
namespace {

struct Avx512Codes : Avx512 {
  static reg load_codes(const std::int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static reg load_codes_partial(const std::int8_t* p, std::int64_t n) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask(n), p)));
  }
};

}  // namespace

extern const CodeTable avx512_code_table;
const CodeTable avx512_code_table = CodeKernels<Avx512Codes>::make("avx512");

}  // namespace atelier::nn::kernels
