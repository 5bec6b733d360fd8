// Compiled as avx512.cpp, with -mavx512bf16.
#include "nn/kernels/lanes_avx512.h"

namespace atelier::nn::kernels {
namespace {

/// Pairs of bf16 products summed into f32 by one instruction (vdpbf16ps): 32 weights a step.
struct PairDot {
  using acc = __m512;
  using operand = __m512bh;
  static constexpr std::int64_t step = 32;

  static acc zero() { return _mm512_setzero_ps(); }
  static operand load(const bf16* p) { return (__m512bh)_mm512_loadu_si512(p); }
  static operand load_partial(const bf16* p, std::int64_t n) {
    return (__m512bh)_mm512_maskz_loadu_epi16(static_cast<__mmask32>((1ULL << n) - 1), p);
  }
  static acc multiply_add(operand a, operand b, acc c) { return _mm512_dpbf16_ps(c, a, b); }
  static float sum(acc a) { return _mm512_reduce_add_ps(a); }
  static void prefetch(const bf16* p) { __builtin_prefetch(reinterpret_cast<const char*>(p) + 1024); }
};

}  // namespace

extern const Table avx512bf16_table;
const Table avx512bf16_table = Kernels<Avx512, PairDot>::make("avx512bf16");

}  // namespace atelier::nn::kernels
