#pragma once

// Gradients of flash attention (FlashAttention-2, arXiv:2307.08691, Algorithm 2), on the tiles of flash_impl.h. One thread computes a
// (batch, head): the sums of dk and dv stay in the cache with a block of keys while all queries pass, those of dq with the whole head.
//
// Besides what flash_impl.h asks, E supplies number(type) as f32 and put_pairs(type*, const __m512[pair]): lane by lane the numbers
// of `pair` registers side by side.

#include "nn/kernels/flash_impl.h"

namespace atelier::nn::kernels {
namespace {

constexpr std::int64_t gradient_queries = 64, gradient_keys = 256;  ///< of a block

/// Buffers of one thread. Scores and what comes of them: (gradient_queries, gradient_keys).
template <class E>
struct GradientScratch {
  using T = typename E::type;
  float *scores, *slopes;      ///< q k^T; dy v^T
  float *dq, *dk, *dv, *dots;  ///< (queries, width), (gradient_keys, width) twice, (queries): dy . y
  T *weights, *slopes_by_key;  ///< softmax and the scores' gradients, pairs of queries side by side
  T* slopes_by_query;          ///< the latter row by row
  T *key_pairs, *value_pairs, *key_rows;  ///< a block, packed
  T *query_rows, *dy_rows;                ///< all, packed

  static std::int64_t queries(const FlashArgs& a) { return up(a.queries, gradient_queries); }
  /// In elements of f32, as each buffer begins at a whole one.
  static std::int64_t size(const FlashArgs& a) {
    const std::int64_t width = up(a.head_dim, lanes), block = gradient_queries * gradient_keys;
    return 5 * block + (3 * queries(a) + 3 * gradient_keys) * width + up(queries(a), lanes) + 2 * gradient_keys * up(a.head_dim, lanes);
  }
  GradientScratch(const FlashArgs& a, float* at) {
    const std::int64_t width = up(a.head_dim, lanes), block = gradient_queries * gradient_keys;
    const auto take = [&](std::int64_t n) { return (at += n) - n; };
    const auto take_typed = [&](std::int64_t n) { return reinterpret_cast<T*>(take(n)); };
    scores = take(block);
    slopes = take(block);
    dq = take(queries(a) * width);
    dk = take(gradient_keys * width);
    dv = take(gradient_keys * width);
    dots = take(up(queries(a), lanes));
    weights = take_typed(block);
    slopes_by_key = take_typed(block);
    slopes_by_query = take_typed(block);
    key_pairs = take_typed(gradient_keys * width);
    value_pairs = take_typed(gradient_keys * width);
    key_rows = take_typed(gradient_keys * width);
    query_rows = take_typed(queries(a) * width);
    dy_rows = take_typed(queries(a) * width);
  }
};

/// A block of queries against a block of keys.
struct GradientBlock {
  std::int64_t query, rows;     ///< the first query, and how many
  std::int64_t key, count;      ///< the first key, and how many
  std::int64_t padded() const { return up(count, chunk); }
};

/// q k^T and dy v^T of a block.
template <class E>
inline void gradient_scores(const FlashArgs& a, const GradientBlock& b, const FlashRows<typename E::type>& q,
                            const FlashRows<typename E::type>& dy, const GradientScratch<E>& s) {
  for (std::int64_t at = 0; at < b.count; at += chunk) {
    const auto product = [&](const FlashRows<typename E::type>& rows, const typename E::type* pairs, float* to) {
      flash_product<E, false>(b.rows, chunk / lanes, rows[b.query], {rows.stride, E::pair}, pairs + at * a.head_dim, chunk * E::pair,
                              a.head_dim / E::pair, to + at, gradient_keys);
    };
    product(q, s.key_pairs, s.scores);
    product(dy, s.value_pairs, s.slopes);
  }
}

/// The weights and the gradients of the scores of a block's rows [row, row + E::pair); rows from b.rows on count nothing.
template <class E>
inline void gradient_weigh(const FlashArgs& a, const GradientBlock& b, const float* sums, std::int64_t row, const GradientScratch<E>& s) {
  const __m512 power = _mm512_set1_ps(a.scale * log2_e), scale = _mm512_set1_ps(a.scale);
  for (std::int64_t i = 0; i < b.padded(); i += lanes) {
    __m512 weights[E::pair], slopes[E::pair];
    for (int p = 0; p < E::pair; ++p) {
      weights[p] = slopes[p] = _mm512_setzero_ps();
      if (row + p >= b.rows) continue;
      const std::int64_t query = b.query + row + p, seen = a.causal && query + 1 - b.key < b.count ? query + 1 - b.key : b.count;
      const float* at = s.scores + (row + p) * gradient_keys + i;
      const __m512 shift = _mm512_set1_ps(-sums[query]);
      weights[p] = _mm512_maskz_mov_ps(lanes_within(0, seen - i), exp2<E::degree>(_mm512_fmadd_ps(_mm512_loadu_ps(at), power, shift)));
      const __m512 slope = _mm512_sub_ps(_mm512_loadu_ps(s.slopes + (row + p) * gradient_keys + i), _mm512_set1_ps(s.dots[query]));
      slopes[p] = _mm512_mul_ps(_mm512_mul_ps(weights[p], slope), scale);
      E::put(s.slopes_by_query + (row + p) * gradient_keys + i, slopes[p]);
    }
    E::put_pairs(s.weights + row * gradient_keys + i * E::pair, weights);
    E::put_pairs(s.slopes_by_key + row * gradient_keys + i * E::pair, slopes);
  }
}

/// Adds a block's share to dq, dk and dv.
template <class E>
inline void gradient_add(const FlashArgs& a, const GradientBlock& b, const GradientScratch<E>& s) {
  const std::int64_t width = up(a.head_dim, lanes), registers = width / lanes, pairs = up(b.rows, E::pair) / E::pair;
  flash_product<E, true>(b.rows, registers, s.slopes_by_query, {gradient_keys, E::pair}, s.key_rows, width * E::pair,
                         b.padded() / E::pair, s.dq + b.query * width, width);
  const FlashSteps by_key{E::pair, gradient_keys * E::pair};
  flash_product<E, true>(b.count, registers, s.weights, by_key, s.dy_rows + b.query * width, width * E::pair, pairs, s.dv, width);
  flash_product<E, true>(b.count, registers, s.slopes_by_key, by_key, s.query_rows + b.query * width, width * E::pair, pairs, s.dk, width);
}

/// dy . y of each query.
template <class E>
inline void gradient_dots(const FlashArgs& a, std::int64_t batch, std::int64_t head, const FlashRows<typename E::type>& dy, float* dots) {
  const std::int64_t row = a.heads * a.head_dim;
  const auto* y = static_cast<const typename E::type*>(a.out) + batch * a.queries * row + head * a.head_dim;
  for (std::int64_t i = 0; i < a.queries; ++i) {
    float sum = 0;
    for (std::int64_t d = 0; d < a.head_dim; ++d) sum += E::number(dy[i][d]) * E::number(y[i * row + d]);
    dots[i] = sum;
  }
}

/// Rows of sums to tokens [begin, begin + rows) of one (batch, head) of a result.
template <class E>
inline void gradient_put(const FlashArgs& a, std::int64_t batch, std::int64_t head, std::int64_t tokens, std::int64_t begin,
                         std::int64_t rows, const float* sums, void* to) {
  for (std::int64_t r = 0; r < rows; ++r) {
    auto* out = static_cast<typename E::type*>(to) + ((batch * tokens + begin + r) * a.heads + head) * a.head_dim;
    flash_put<E>(sums + r * up(a.head_dim, lanes), a.head_dim, 1.0F, out);
  }
}

template <class E>
inline void flash_gradients(const FlashGradientArgs& g, std::int64_t batch, std::int64_t head, float* scratch) {
  using T = typename E::type;
  const FlashArgs& a = g.forward;
  const GradientScratch<E> s(a, scratch);
  const std::int64_t width = up(a.head_dim, lanes), queries = GradientScratch<E>::queries(a);
  const FlashRows<T> q(a.q, batch, head), k(a.k, batch, head), v(a.v, batch, head), dy(g.dy, batch, head);
  const float* sums = a.sums + (batch * a.heads + head) * a.queries;
  gradient_dots<E>(a, batch, head, dy, s.dots);
  flash_pack_rows<E>(q, a.head_dim, 0, a.queries, queries, s.query_rows);
  flash_pack_rows<E>(dy, a.head_dim, 0, a.queries, queries, s.dy_rows);
  flash_clear(s.dq, queries * width);
  for (std::int64_t key = 0; key < a.keys; key += gradient_keys) {
    const std::int64_t count = a.keys - key < gradient_keys ? a.keys - key : gradient_keys;
    flash_pack_pairs<E>(k, a.head_dim, key, key + count, s.key_pairs);
    flash_pack_pairs<E>(v, a.head_dim, key, key + count, s.value_pairs);
    flash_pack_rows<E>(k, a.head_dim, key, key + count, gradient_keys, s.key_rows);
    flash_clear(s.dk, gradient_keys * width);
    flash_clear(s.dv, gradient_keys * width);
    for (std::int64_t query = a.causal ? key / gradient_queries * gradient_queries : 0; query < a.queries; query += gradient_queries) {
      const GradientBlock b{query, a.queries - query < gradient_queries ? a.queries - query : gradient_queries, key, count};
      gradient_scores<E>(a, b, q, dy, s);
      for (std::int64_t row = 0; row < b.rows; row += E::pair) gradient_weigh<E>(a, b, sums, row, s);
      gradient_add<E>(a, b, s);
    }
    gradient_put<E>(a, batch, head, a.keys, key, count, s.dk, g.dk);
    gradient_put<E>(a, batch, head, a.keys, key, count, s.dv, g.dv);
  }
  gradient_put<E>(a, batch, head, a.queries, 0, a.queries, s.dq, g.dq);
}

template <class E>
struct Flash {
  static std::int64_t packed_size(const FlashArgs& a) {
    return up(FlashShape<E>(a).elements() * static_cast<std::int64_t>(sizeof(typename E::type)), 64) / 4;
  }
  static std::int64_t scratch_size(const FlashArgs& a) { return FlashScratch<E>::size(FlashShape<E>(a)); }
  static std::int64_t gradient_scratch_size(const FlashGradientArgs& a) {
    return GradientScratch<E>::size(a.forward);
  }
  static constexpr FlashKernels make() {
    return {packed_size, scratch_size, flash_pack<E>, flash_attend<E>, gradient_scratch_size, flash_gradients<E>};
  }
};

struct FlashFloat {
  using type = float;
  static constexpr int pair = 1, degree = 5;
  static __m512 step(__m512 acc, const float* a, __m512 b) { return _mm512_fmadd_ps(_mm512_set1_ps(*a), b, acc); }
  static float number(float x) { return x; }
  static void put(float* to, __m512 x) { _mm512_storeu_ps(to, x); }
  static void put_pairs(float* to, const __m512* x) { _mm512_storeu_ps(to, *x); }
  static void put_partial(float* to, __m512 x, std::int64_t n) {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1U << n) - 1), x);
  }
};

}  // namespace
}  // namespace atelier::nn::kernels
