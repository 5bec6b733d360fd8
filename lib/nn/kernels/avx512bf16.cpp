// Compiled as avx512.cpp, with -mavx512bf16.
#include "nn/kernels/channels_last_impl.h"
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
  static acc add(acc a, acc b) { return _mm512_add_ps(a, b); }
  static float sum(acc a) { return _mm512_reduce_add_ps(a); }
  static void prefetch(const bf16* p) { __builtin_prefetch(reinterpret_cast<const char*>(p) + 2048); }
};

/// Rounds to bf16 by one instruction.
struct Avx512Rounding : Avx512 {
  using Avx512::store;
  using Avx512::store_partial;
  static void store(bf16* p, reg v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(v));
  }
  static void store_partial(bf16* p, reg v, std::int64_t n) {
    _mm256_mask_storeu_epi16(p, mask(n), (__m256i)_mm512_cvtneps_pbh(v));
  }
};

}  // namespace

extern const Table avx512bf16_table;
const Table avx512bf16_table = Kernels<Avx512, PairDot>::make("avx512bf16");
extern const ChannelsLast avx512bf16_channels_last;
const ChannelsLast avx512bf16_channels_last = ChannelsLastOf<Avx512Rounding>::make();

}  // namespace atelier::nn::kernels
