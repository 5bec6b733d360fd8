#pragma once

// Kernel bodies, written once over a vector type V and compiled once per instruction set (scalar.cpp, avx2.cpp, ...).
// Everything is in an unnamed namespace and no standard header with inline functions is included: code compiled for a newer
// instruction set must never be the copy that the linker keeps for all.
//
// V supplies: `reg`, `width`, zero(), set1(float), load(const float*), load(const bf16*), store(float*, reg),
// store(bf16*, reg), partial loads and stores of n < width elements (missing ones are 0), add, sub, mul, div, fma(a, b, c) =
// a b + c, max, min, round (to nearest even), sum (of the lanes, in a fixed order), greatest, pow2(n) = 2^n.

#include "nn/kernels/kernels.h"

namespace atelier::nn::kernels {
namespace {

template <class V, class T>
inline typename V::reg load_n(const T* p, std::int64_t n) {
  return n >= V::width ? V::load(p) : V::load_partial(p, n);
}

template <class V, class T>
inline void store_n(T* p, typename V::reg v, std::int64_t n) {
  if (n >= V::width)
    V::store(p, v);
  else
    V::store_partial(p, v, n);
}

/// e^x to about 1 ulp: x = n ln2 + r, a degree-6 polynomial on |r| <= ln2/2, scaled by 2^n. Clamped to finite results; NaN
/// stays NaN, because max and min return their second operand where one is NaN.
template <class V>
inline typename V::reg exp(typename V::reg x) {
  x = V::min(V::set1(88.3F), V::max(V::set1(-87.3F), x));
  const auto n = V::round(V::mul(x, V::set1(1.44269504F)));
  auto r = V::fma(n, V::set1(-0.693359375F), x);
  r = V::fma(n, V::set1(2.12194440e-4F), r);
  auto p = V::set1(1.0F / 720);
  p = V::fma(p, r, V::set1(1.0F / 120));
  p = V::fma(p, r, V::set1(1.0F / 24));
  p = V::fma(p, r, V::set1(1.0F / 6));
  p = V::fma(p, r, V::set1(0.5F));
  p = V::fma(p, r, V::set1(1.0F));
  p = V::fma(p, r, V::set1(1.0F));
  return V::mul(p, V::pow2(n));
}

/// tanh x = 1 - 2 / (e^2x + 1); absolute error about 1e-7.
template <class V>
inline typename V::reg tanh(typename V::reg x) {
  const auto e = exp<V>(V::add(x, x));
  return V::sub(V::set1(1.0F), V::div(V::set1(2.0F), V::add(e, V::set1(1.0F))));
}

/// e^x of one number, by the same polynomial.
template <class V>
inline float exp_one(float x) {
  return V::first(exp<V>(V::set1(x)));
}

/// One step of dot_tile: R x B products of the numbers from k on.
template <class D, int R, int B, class T>
inline void dot_step(const T* w, const T* x, std::int64_t in, std::int64_t k, typename D::acc (&acc)[R][B]) {
  typename D::operand xs[B];
  for (int b = 0; b < B; ++b) xs[b] = D::load(x + b * in + k);
  for (int r = 0; r < R; ++r) {
    D::prefetch(w + r * in + k);
    const auto ws = D::load(w + r * in + k);
    for (int b = 0; b < B; ++b) acc[r][b] = D::multiply_add(ws, xs[b], acc[r][b]);
  }
}

/// R weight rows times B activation rows: each of the R x B sums has U accumulators of its own, which take turns in the order of k.
template <class D, int R, int B, int U, class T>
inline void dot_tile(const T* w, const T* x, std::int64_t in, float (&sums)[R][B]) {
  typename D::acc acc[U][R][B];
  for (int u = 0; u < U; ++u)
    for (int r = 0; r < R; ++r)
      for (int b = 0; b < B; ++b) acc[u][r][b] = D::zero();
  std::int64_t k = 0;
  for (; k + U * D::step <= in; k += U * D::step)
    for (int u = 0; u < U; ++u) dot_step<D, R, B>(w, x, in, k + u * D::step, acc[u]);
  for (; k + D::step <= in; k += D::step) dot_step<D, R, B>(w, x, in, k, acc[0]);
  if (k < in) {
    for (int r = 0; r < R; ++r) {
      const auto ws = D::load_partial(w + r * in + k, in - k);
      for (int b = 0; b < B; ++b)
        acc[0][r][b] = D::multiply_add(ws, D::load_partial(x + b * in + k, in - k), acc[0][r][b]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < B; ++b) {
      for (int u = 1; u < U; ++u) acc[0][r][b] = D::add(acc[0][r][b], acc[u][r][b]);
      sums[r][b] = D::sum(acc[0][r][b]);
    }
}

inline float widen(float x) { return x; }
inline float widen(bf16 x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
  float f;
  __builtin_memcpy(&f, &bits, 4);
  return f;
}
inline void narrow(float x, float* y) { *y = x; }
inline void narrow(float x, bf16* y) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  if (x != x)
    *y = 0x7fc0;
  else
    *y = static_cast<bf16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // to nearest, ties to even
}

/// One row of weights at a time: a thread reads them from front to back, which is faster than several rows side by side.
template <class D, int B, class T>
inline void linear_tile(const LinearArgs& a, std::int64_t n, std::int64_t b0) {
  float sums[1][B];
  dot_tile<D, 1, B, 4>(static_cast<const T*>(a.w) + n * a.in, static_cast<const T*>(a.x) + b0 * a.in, a.in, sums);
  const float bias = a.bias ? widen(static_cast<const T*>(a.bias)[n]) : 0.0F;
  for (int b = 0; b < B; ++b) {
    const std::int64_t at = (b0 + b) * a.out + n;
    if (a.y_f32)
      static_cast<float*>(a.y)[at] = sums[0][b] + bias;
    else
      narrow(sums[0][b] + bias, static_cast<T*>(a.y) + at);
  }
}

template <class D, class T>
inline void linear_typed(const LinearArgs& a, std::int64_t begin, std::int64_t end) {
  for (std::int64_t n = begin; n < end; ++n) {
    std::int64_t b = 0;
    for (; b + 4 <= a.rows; b += 4) linear_tile<D, 4, T>(a, n, b);
    switch (a.rows - b) {
      case 3: linear_tile<D, 3, T>(a, n, b); break;
      case 2: linear_tile<D, 2, T>(a, n, b); break;
      case 1: linear_tile<D, 1, T>(a, n, b); break;
      default: break;
    }
  }
}

/// The operand of dot_tile for a type T through plain f32 lanes.
template <class V, class T>
struct FloatDot {
  using acc = typename V::reg;
  using operand = typename V::reg;
  static constexpr std::int64_t step = V::width;
  static acc zero() { return V::zero(); }
  static operand load(const T* p) { return V::load(p); }
  static operand load_partial(const T* p, std::int64_t n) { return V::load_partial(p, n); }
  static acc multiply_add(operand a, operand b, acc c) { return V::fma(a, b, c); }
  static acc add(acc a, acc b) { return V::add(a, b); }
  static float sum(acc a) { return V::sum(a); }
  static void prefetch(const T* p) { __builtin_prefetch(reinterpret_cast<const char*>(p) + 2048); }
};

template <class V, class T>
inline void rms_norm_typed(const T* x, const T* w, T* y, std::int64_t n, std::int64_t stride, float eps,
                           std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row) {
    const T* in = x + row * stride;
    T* out = y + row * stride;
    auto squares = V::zero();
    for (std::int64_t i = 0; i < n; i += V::width) {
      const auto v = load_n<V>(in + i, n - i);
      squares = V::fma(v, v, squares);
    }
    const float mean = V::sum(squares) / static_cast<float>(n);
    const auto inverse = V::set1(1.0F / __builtin_sqrtf(mean + eps));
    for (std::int64_t i = 0; i < n; i += V::width) {
      const auto gain = V::add(V::set1(1.0F), load_n<V>(w + i, n - i));
      store_n<V>(out + i, V::mul(V::mul(load_n<V>(in + i, n - i), inverse), gain), n - i);
    }
  }
}

template <class V, class T>
inline void geglu_typed(T* gate, const T* up, std::int64_t n, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row) {
    for (std::int64_t i = 0; i < n; i += V::width) {
      T* g = gate + row * n + i;
      const auto x = load_n<V>(g, n - i);
      // gelu_tanh(x) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3)
      const auto cube = V::mul(V::mul(x, x), x);
      const auto u = V::mul(V::set1(-1.5957691F), V::fma(cube, V::set1(0.044715F), x));
      const auto gelu = V::div(x, V::add(V::set1(1.0F), exp<V>(u)));
      store_n<V>(g, V::mul(gelu, load_n<V>(up + row * n + i, n - i)), n - i);
    }
  }
}

template <class V>
inline void softcap_f32(float* x, float cap, std::int64_t begin, std::int64_t end) {
  const auto c = V::set1(cap), inverse = V::set1(1.0F / cap);
  for (std::int64_t i = begin; i < end; i += V::width)
    store_n<V>(x + i, V::mul(c, tanh<V>(V::mul(load_n<V>(x + i, end - i), inverse))), end - i);
}

template <class V, class T>
inline void rope_typed(T* x, const float* cos, const float* sin, std::int64_t heads, std::int64_t head_dim,
                       std::int64_t begin, std::int64_t end) {
  const std::int64_t half = head_dim / 2;
  for (std::int64_t row = begin; row < end; ++row)
    for (std::int64_t h = 0; h < heads; ++h) {
      T* first = x + (row * heads + h) * head_dim;
      T* second = first + half;
      for (std::int64_t i = 0; i < half; i += V::width) {
        const auto c = load_n<V>(cos + row * half + i, half - i), s = load_n<V>(sin + row * half + i, half - i);
        const auto a = load_n<V>(first + i, half - i), b = load_n<V>(second + i, half - i);
        store_n<V>(first + i, V::sub(V::mul(a, c), V::mul(b, s)), half - i);
        store_n<V>(second + i, V::fma(a, s, V::mul(b, c)), half - i);
      }
    }
}

/// R scores of one query.
template <class V, int R, class T>
inline void score_keys(const T* q, const T* k, std::int64_t dim, float scale, float* scores) {
  float sums[R][1];
  dot_tile<FloatDot<V, T>, R, 1, 1>(k, q, dim, sums);
  for (int r = 0; r < R; ++r) scores[r] = sums[r][0] * scale;
}

/// C registers of the weighted sum of values.
template <class V, int C, class T>
inline void weigh_values(const float* weights, const T* v, std::int64_t dim, std::int64_t keys, float* out) {
  typename V::reg sum[C];
  for (int c = 0; c < C; ++c) sum[c] = V::zero();
  for (std::int64_t t = 0; t < keys; ++t)
    for (int c = 0; c < C; ++c) sum[c] = V::fma(V::set1(weights[t]), V::load(v + t * dim + c * V::width), sum[c]);
  for (int c = 0; c < C; ++c) V::store(out + c * V::width, sum[c]);
}

template <class V, class T>
inline void attention_block_typed(const AttentionArgs& a, std::int64_t kv_head, std::int64_t first, std::int64_t last,
                                  float* m, float* l, float* acc, float* scores) {
  const std::int64_t group = a.heads / a.kv_heads, dim = a.head_dim, keys = last - first;
  const T* k = static_cast<const T*>(a.k) + (kv_head * a.capacity + first) * dim;
  const T* v = static_cast<const T*>(a.v) + (kv_head * a.capacity + first) * dim;
  for (std::int64_t g = 0; g < group; ++g) {
    const T* q = static_cast<const T*>(a.q) + (kv_head * group + g) * dim;
    float* out = acc + g * dim;
    std::int64_t t = 0;
    for (; t + 4 <= keys; t += 4) score_keys<V, 4>(q, k + t * dim, dim, a.scale, scores + t);
    for (; t < keys; ++t) score_keys<V, 1>(q, k + t * dim, dim, a.scale, scores + t);
    if (a.softcap > 0) softcap_f32<V>(scores, a.softcap, 0, keys);
    float top = scores[0];
    for (t = 1; t < keys; ++t) top = scores[t] > top ? scores[t] : top;
    auto total = V::zero();
    for (t = 0; t < keys; t += V::width) {
      auto e = exp<V>(V::sub(load_n<V>(scores + t, keys - t), V::set1(top)));
      store_n<V>(scores + t, e, keys - t);
      if (keys - t < V::width) e = V::load_partial(scores + t, keys - t);  // lanes behind the end count nothing
      total = V::add(total, e);
    }
    m[g] = top;
    l[g] = V::sum(total);
    std::int64_t i = 0;
    for (; i + 4 * V::width <= dim; i += 4 * V::width) weigh_values<V, 4>(scores, v + i, dim, keys, out + i);
    for (; i + V::width <= dim; i += V::width) weigh_values<V, 1>(scores, v + i, dim, keys, out + i);
    for (; i < dim; ++i) {
      float sum = 0;
      for (t = 0; t < keys; ++t) sum += scores[t] * widen(v[t * dim + i]);
      out[i] = sum;
    }
  }
}

template <class V, class T>
inline void attention_merge_typed(const AttentionArgs& a, std::int64_t kv_head, std::int64_t blocks, const float* m,
                                  const float* l, const float* acc) {
  const std::int64_t group = a.heads / a.kv_heads, dim = a.head_dim;
  for (std::int64_t g = 0; g < group; ++g) {
    float top = m[g];
    for (std::int64_t b = 1; b < blocks; ++b) top = m[b * group + g] > top ? m[b * group + g] : top;
    T* out = static_cast<T*>(a.out) + (kv_head * group + g) * dim;
    float total = 0;
    for (std::int64_t b = 0; b < blocks; ++b) total += l[b * group + g] * exp_one<V>(m[b * group + g] - top);
    for (std::int64_t i = 0; i < dim; i += V::width) {
      auto sum = V::zero();
      for (std::int64_t b = 0; b < blocks; ++b) {
        const auto weight = V::set1(exp_one<V>(m[b * group + g] - top) / total);
        sum = V::fma(weight, load_n<V>(acc + (b * group + g) * dim + i, dim - i), sum);
      }
      store_n<V>(out + i, sum, dim - i);
    }
  }
}

/// The table of an instruction set: V for everything, Bf16Dot for the products of bf16 numbers.
template <class V, class Bf16Dot>
struct Kernels {
  static void linear(const LinearArgs& a, std::int64_t begin, std::int64_t end) {
    if (a.type == Type::bfloat16)
      linear_typed<Bf16Dot, bf16>(a, begin, end);
    else
      linear_typed<FloatDot<V, float>, float>(a, begin, end);
  }
  static void rms_norm(Type type, const void* x, const void* w, void* y, std::int64_t n, std::int64_t stride, float eps,
                       std::int64_t begin, std::int64_t end) {
    if (type == Type::bfloat16)
      rms_norm_typed<V>(static_cast<const bf16*>(x), static_cast<const bf16*>(w), static_cast<bf16*>(y), n, stride, eps,
                        begin, end);
    else
      rms_norm_typed<V>(static_cast<const float*>(x), static_cast<const float*>(w), static_cast<float*>(y), n, stride,
                        eps, begin, end);
  }
  static void geglu(Type type, void* gate, const void* up, std::int64_t n, std::int64_t begin, std::int64_t end) {
    if (type == Type::bfloat16)
      geglu_typed<V>(static_cast<bf16*>(gate), static_cast<const bf16*>(up), n, begin, end);
    else
      geglu_typed<V>(static_cast<float*>(gate), static_cast<const float*>(up), n, begin, end);
  }
  static void softcap(float* x, float cap, std::int64_t begin, std::int64_t end) { softcap_f32<V>(x, cap, begin, end); }
  static void rope(Type type, void* x, const float* cos, const float* sin, std::int64_t heads, std::int64_t head_dim,
                   std::int64_t begin, std::int64_t end) {
    if (type == Type::bfloat16)
      rope_typed<V>(static_cast<bf16*>(x), cos, sin, heads, head_dim, begin, end);
    else
      rope_typed<V>(static_cast<float*>(x), cos, sin, heads, head_dim, begin, end);
  }
  static void attention_block(const AttentionArgs& a, std::int64_t kv_head, std::int64_t first, std::int64_t last,
                              float* m, float* l, float* acc, float* scores) {
    if (a.type == Type::bfloat16)
      attention_block_typed<V, bf16>(a, kv_head, first, last, m, l, acc, scores);
    else
      attention_block_typed<V, float>(a, kv_head, first, last, m, l, acc, scores);
  }
  static void attention_merge(const AttentionArgs& a, std::int64_t kv_head, std::int64_t blocks, const float* m,
                              const float* l, const float* acc) {
    if (a.type == Type::bfloat16)
      attention_merge_typed<V, bf16>(a, kv_head, blocks, m, l, acc);
    else
      attention_merge_typed<V, float>(a, kv_head, blocks, m, l, acc);
  }
  static constexpr Table make(const char* name) {
    return {name, linear, rms_norm, geglu, softcap, rope, attention_block, attention_merge};
  }
};

}  // namespace
}  // namespace atelier::nn::kernels
