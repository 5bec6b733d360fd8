#pragma once

// Bodies of cache_codes.h over a vector type V (see impl.h), which besides loads codes: load_codes(p) and
// load_codes_partial(p, n) give them as floats.

#include "nn/kernels/cache_codes.h"
#include "nn/kernels/impl.h"

namespace atelier::nn::kernels {
namespace {

/// V with plain loads of codes.
template <class V>
struct PlainCodes : V {
  static typename V::reg load_codes(const std::int8_t* p) { return load_codes_partial(p, V::width); }
  static typename V::reg load_codes_partial(const std::int8_t* p, std::int64_t n) {
    float lanes[V::width] = {};
    for (std::int64_t i = 0; i < V::width && i < n; ++i) lanes[i] = static_cast<float>(p[i]);
    return V::load(lanes);
  }
};

template <class T>
inline float encode_typed(const T* x, std::int64_t n, std::int8_t* codes) {
  float most = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float magnitude = __builtin_fabsf(widen(x[i]));
    most = magnitude > most || magnitude != magnitude ? magnitude : most;  // a NaN stays one: it becomes the scale
  }
  const float scale = most / 127.0F, inverse = scale > 0 ? 1.0F / scale : 0.0F;
  for (std::int64_t i = 0; i < n; ++i) {
    float code = __builtin_rintf(widen(x[i]) * inverse);
    code = code > 127.0F ? 127.0F : code < -127.0F ? -127.0F : code;
    codes[i] = code == code ? static_cast<std::int8_t>(static_cast<std::int32_t>(code)) : std::int8_t{0};
  }
  return scale;
}

/// Products of R keys' codes with B queries.
template <class V, int R, int B>
inline void dot_codes(const std::int8_t* k, const float* q, std::int64_t dim, float (&sums)[R][B]) {
  typename V::reg acc[R][B];
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < B; ++b) acc[r][b] = V::zero();
  std::int64_t i = 0;
  for (; i + V::width <= dim; i += V::width) {
    typename V::reg qs[B];
    for (int b = 0; b < B; ++b) qs[b] = V::load(q + b * dim + i);
    for (int r = 0; r < R; ++r) {
      const auto codes = V::load_codes(k + r * dim + i);
      for (int b = 0; b < B; ++b) acc[r][b] = V::fma(codes, qs[b], acc[r][b]);
    }
  }
  if (i < dim)
    for (int r = 0; r < R; ++r) {
      const auto codes = V::load_codes_partial(k + r * dim + i, dim - i);
      for (int b = 0; b < B; ++b) acc[r][b] = V::fma(codes, V::load_partial(q + b * dim + i, dim - i), acc[r][b]);
    }
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < B; ++b) sums[r][b] = V::sum(acc[r][b]);
}

/// Scores (B, attention_block_keys) of `R` keys from `t` on.
template <class V, int R, int B>
inline void score_codes(const std::int8_t* k, const float* scales, const float* q, std::int64_t dim, float scale,
                        std::int64_t t, float* scores) {
  float sums[R][B];
  dot_codes<V, R, B>(k + t * dim, q, dim, sums);
  for (int r = 0; r < R; ++r)
    for (int b = 0; b < B; ++b) scores[b * attention_block_keys + t + r] = sums[r][b] * (scales[t + r] * scale);
}

/// C registers of B weighted sums of values; weights (B, attention_block_keys).
template <class V, int C, int B>
inline void weigh_codes(const float* weights, const std::int8_t* v, std::int64_t dim, std::int64_t keys, float* out) {
  typename V::reg sum[B][C];
  for (int b = 0; b < B; ++b)
    for (int c = 0; c < C; ++c) sum[b][c] = V::zero();
  for (std::int64_t t = 0; t < keys; ++t)
    for (int c = 0; c < C; ++c) {
      const auto codes = V::load_codes(v + t * dim + c * V::width);
      for (int b = 0; b < B; ++b) sum[b][c] = V::fma(V::set1(weights[b * attention_block_keys + t]), codes, sum[b][c]);
    }
  for (int b = 0; b < B; ++b)
    for (int c = 0; c < C; ++c) V::store(out + b * dim + c * V::width, sum[b][c]);
}

/// exp(score - maximum) in place; the maximum and the sum.
template <class V>
inline void soften(float* scores, std::int64_t keys, float softcap, float* m, float* l) {
  if (softcap > 0) softcap_f32<V>(scores, softcap, 0, keys);
  float top = scores[0];
  for (std::int64_t t = 1; t < keys; ++t) top = scores[t] > top ? scores[t] : top;
  auto total = V::zero();
  for (std::int64_t t = 0; t < keys; t += V::width) {
    auto e = exp<V>(V::sub(load_n<V>(scores + t, keys - t), V::set1(top)));
    store_n<V>(scores + t, e, keys - t);
    if (keys - t < V::width) e = V::load_partial(scores + t, keys - t);  // lanes behind the end count nothing
    total = V::add(total, e);
  }
  *m = top;
  *l = V::sum(total);
}

/// B queries of one kv head, whose codes are read once for all of them.
template <class V, int B>
inline void attend_codes(const std::int8_t* k, const float* k_scales, const std::int8_t* v, const float* v_scales,
                         const float* q, std::int64_t dim, std::int64_t keys, float scale, float softcap, float* m,
                         float* l, float* acc, float* scores) {
  std::int64_t t = 0;
  for (; t + 4 <= keys; t += 4) score_codes<V, 4, B>(k, k_scales, q, dim, scale, t, scores);
  for (; t < keys; ++t) score_codes<V, 1, B>(k, k_scales, q, dim, scale, t, scores);
  for (int b = 0; b < B; ++b) {
    float* const own = scores + b * attention_block_keys;
    soften<V>(own, keys, softcap, m + b, l + b);
    for (t = 0; t < keys; ++t) own[t] *= v_scales[t];
  }
  std::int64_t i = 0;
  for (; i + 4 * V::width <= dim; i += 4 * V::width) weigh_codes<V, 4, B>(scores, v + i, dim, keys, acc + i);
  for (; i + V::width <= dim; i += V::width) weigh_codes<V, 1, B>(scores, v + i, dim, keys, acc + i);
  for (; i < dim; ++i)
    for (int b = 0; b < B; ++b) {
      float sum = 0;
      for (t = 0; t < keys; ++t) sum += scores[b * attention_block_keys + t] * static_cast<float>(v[t * dim + i]);
      acc[b * dim + i] = sum;
    }
}

template <class V>
struct CodeKernels {
  static float encode(Type type, const void* x, std::int64_t n, std::int8_t* codes) {
    return type == Type::bfloat16 ? encode_typed(static_cast<const bf16*>(x), n, codes)
                                  : encode_typed(static_cast<const float*>(x), n, codes);
  }

  static void attention_block(const AttentionArgs& a, const float* k_scales, const float* v_scales,
                              std::int64_t kv_head, std::int64_t first, std::int64_t last, float* m, float* l,
                              float* acc) {
    const std::int64_t group = a.heads / a.kv_heads, dim = a.head_dim, keys = last - first;
    const std::int64_t place = kv_head * a.capacity + first;
    const auto* const k = static_cast<const std::int8_t*>(a.k) + place * dim;
    const auto* const v = static_cast<const std::int8_t*>(a.v) + place * dim;
    float q[2 * most_coded_head], scores[2 * attention_block_keys];
    for (std::int64_t g = 0; g < group; g += 2) {
      const std::int64_t count = group - g < 2 ? 1 : 2, head = (kv_head * group + g) * dim;
      for (std::int64_t i = 0; i < count * dim; ++i)
        q[i] = a.type == Type::bfloat16 ? widen(static_cast<const bf16*>(a.q)[head + i])
                                        : static_cast<const float*>(a.q)[head + i];
      const auto attend = count == 2 ? attend_codes<V, 2> : attend_codes<V, 1>;
      attend(k, k_scales + place, v, v_scales + place, q, dim, keys, a.scale, a.softcap, m + g, l + g, acc + g * dim,
             scores);
    }
  }

  static constexpr CodeTable make(const char* name) { return {name, encode, attention_block}; }
};

}  // namespace
}  // namespace atelier::nn::kernels
