// Compiled with -mavx2 -mfma.
#include <immintrin.h>

#include "nn/kernels/channels_last_impl.h"

namespace atelier::nn::kernels {
namespace {

struct Avx2 {
  static constexpr std::int64_t width = 8;
  using reg = __m256;

  static reg zero() { return _mm256_setzero_ps(); }
  static reg set1(float x) { return _mm256_set1_ps(x); }
  static reg load(const float* p) { return _mm256_loadu_ps(p); }
  static reg load(const bf16* p) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
  }
  template <class T>
  static reg load_partial(const T* p, std::int64_t n) {
    T lanes[8] = {};
    for (int i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  static void store(float* p, reg v) { _mm256_storeu_ps(p, v); }
  static void store(bf16* p, reg v) {
    float lanes[8];
    _mm256_storeu_ps(lanes, v);
    for (int i = 0; i < 8; ++i) narrow(lanes[i], p + i);
  }
  template <class T>
  static void store_partial(T* p, reg v, std::int64_t n) {
    T lanes[8];
    store(lanes, v);
    for (int i = 0; i < n; ++i) p[i] = lanes[i];
  }
  static reg add(reg a, reg b) { return _mm256_add_ps(a, b); }
  static reg sub(reg a, reg b) { return _mm256_sub_ps(a, b); }
  static reg mul(reg a, reg b) { return _mm256_mul_ps(a, b); }
  static reg div(reg a, reg b) { return _mm256_div_ps(a, b); }
  static reg fma(reg a, reg b, reg c) { return _mm256_fmadd_ps(a, b, c); }
  static reg max(reg a, reg b) { return _mm256_max_ps(a, b); }
  static reg min(reg a, reg b) { return _mm256_min_ps(a, b); }
  static reg round(reg a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static reg pow2(reg n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
  }
  static float first(reg a) { return _mm256_cvtss_f32(a); }
  static float sum(reg a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
};

}  // namespace

extern const Table avx2_table;
const Table avx2_table = Kernels<Avx2, FloatDot<Avx2, bf16>>::make("avx2");
extern const ChannelsLast avx2_channels_last;
const ChannelsLast avx2_channels_last = ChannelsLastOf<Avx2>::make();

}  // namespace atelier::nn::kernels
