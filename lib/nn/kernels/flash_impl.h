#pragma once

// Flash attention over AVX-512 registers, written once over an element type E and compiled per instruction set. As in impl.h,
// everything is in an unnamed namespace and no standard header with inline functions is included.
//
// E supplies: `type` (of memory), `pair` (elements that one lane of a register multiplies at once: 1 or 2), `degree` of the
// polynomial of e^x, step(acc, a, b) = acc + a b with a the pair at an address for all lanes and b a register of 16 pairs,
// put(type*, __m512) storing 16 numbers.

#include <immintrin.h>

#include "nn/kernels/flash_attention.h"

namespace atelier::nn::kernels {
namespace {

constexpr std::int64_t lanes = 16, key_block = 256, chunk = 64;
constexpr float log2_e = 1.44269504F;

inline std::int64_t up(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/// 2^x, not below 2^-126; NaN stays NaN. Polynomials of least relative error on [-1/2, 1/2] with 1 at 0: 3e-6 with degree 4,
/// 1e-7 with degree 5.
template <int degree>
inline __m512 exp2(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-126.0F), x);  // the second operand where one is NaN
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(x, n);
  __m512 p;
  if constexpr (degree == 5) {
    p = _mm512_set1_ps(1.326472690e-3F);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.671512661e-3F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.550733744e-2F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.402224208e-1F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.931469776e-1F));
  } else {
    p = _mm512_set1_ps(9.582852867e-3F);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.590642492e-2F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.402409862e-1F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.931241934e-1F));
  }
  return _mm512_scalef_ps(_mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0F)), n);
}

/// tanh x; its error is absolute, a few of those of 2^x.
template <int degree>
inline __m512 tanh(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0F), e = exp2<degree>(_mm512_mul_ps(x, _mm512_set1_ps(2.88539008F)));  // e^2x
  return _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.0F), _mm512_add_ps(e, one)));
}

/// Sizes of one (batch, head), in elements of E::type but for scores and sums (f32).
template <class E>
struct FlashShape {
  std::int64_t depth;      ///< pairs of a key
  std::int64_t registers;  ///< that hold one row of values
  std::int64_t keys;       ///< with padding
  std::int64_t value_at;   ///< where values begin behind the keys

  explicit FlashShape(const FlashArgs& a)
      : depth(a.head_dim / E::pair), registers(up(a.head_dim, lanes) / lanes), keys(up(a.keys, chunk)),
        value_at(keys * a.head_dim) {}
  std::int64_t elements() const { return value_at + keys * registers * lanes; }
  std::int64_t width() const { return registers * lanes; }
};

/// One (batch, head) of a tensor.
template <class T>
struct FlashRows {
  const T* data;
  std::int64_t stride;

  FlashRows(const FlashArgs::Side& side, std::int64_t batch, std::int64_t head)
      : data(static_cast<const T*>(side.data) + batch * side.batch_stride + head * side.head_stride), stride(side.token_stride) {}
  const T* operator[](std::int64_t token) const { return data + token * stride; }
};

/// Tokens [begin, end) in chunks of 64, within one the pairs in order, each for all 64 tokens. What pads the last chunk is 0.
template <class E>
inline void flash_pack_pairs(const FlashRows<typename E::type>& from, std::int64_t dim, std::int64_t begin, std::int64_t end,
                             typename E::type* packed) {
  using T = typename E::type;
  for (std::int64_t token = 0; token < up(end - begin, chunk); ++token) {
    T* to = packed + token / chunk * chunk * dim + token % chunk * E::pair;
    const T* row = from[begin + token];
    for (std::int64_t d = 0; d < dim / E::pair; ++d)
      for (int i = 0; i < E::pair; ++i) to[d * chunk * E::pair + i] = begin + token < end ? row[d * E::pair + i] : T{};
  }
}

/// Tokens [begin, end), E::pair of them side by side, in whole registers, `padded` tokens in all. What pads is 0.
template <class E>
inline void flash_pack_rows(const FlashRows<typename E::type>& from, std::int64_t dim, std::int64_t begin, std::int64_t end,
                            std::int64_t padded, typename E::type* packed) {
  using T = typename E::type;
  const std::int64_t width = up(dim, lanes);
  for (std::int64_t token = 0; token < padded; ++token) {
    T* to = packed + token / E::pair * E::pair * width + token % E::pair;
    const T* row = from[begin + token];
    for (std::int64_t d = 0; d < width; ++d) to[d * E::pair] = begin + token < end && d < dim ? row[d] : T{};
  }
}

template <class E>
inline void flash_pack(const FlashArgs& a, std::int64_t batch, std::int64_t head, float* packed) {
  using T = typename E::type;
  const FlashShape<E> shape(a);
  T* keys = reinterpret_cast<T*>(packed);
  flash_pack_pairs<E>(FlashRows<T>(a.k, batch, head), a.head_dim, 0, a.keys, keys);
  flash_pack_rows<E>(FlashRows<T>(a.v, batch, head), a.head_dim, 0, a.keys, shape.keys, keys + shape.value_at);
}

/// Where the pairs of a product's left side stand: elements from one row to the next, and from one pair of a row to its next.
struct FlashSteps {
  std::int64_t row, pair;
};

/// c (+)= a b for R rows of a and N registers of columns. `b_step`: elements from one pair to the next; `c_stride` counts f32.
template <class E, int R, int N, bool add>
inline void flash_tile(const typename E::type* a, FlashSteps steps, const typename E::type* b, std::int64_t b_step,
                       std::int64_t depth, float* c, std::int64_t c_stride) {
  __m512 acc[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) acc[r][n] = add ? _mm512_loadu_ps(c + r * c_stride + n * lanes) : _mm512_setzero_ps();
  for (std::int64_t d = 0; d < depth; ++d) {
    __m512 row[N];
    for (int n = 0; n < N; ++n) row[n] = _mm512_loadu_ps(reinterpret_cast<const float*>(b + n * lanes * E::pair));
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < N; ++n) acc[r][n] = E::step(acc[r][n], a + r * steps.row, row[n]);
    a += steps.pair;
    b += b_step;
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) _mm512_storeu_ps(c + r * c_stride + n * lanes, acc[r][n]);
}

template <class E, int N, bool add>
inline void flash_rows(std::int64_t rows, const typename E::type* a, FlashSteps steps, const typename E::type* b,
                       std::int64_t b_step, std::int64_t depth, float* c, std::int64_t c_stride) {
  constexpr int most = N <= 3 ? 8 : N == 4 ? 6 : 5;  // accumulators, a row of b and a pair of a fit 32 registers
  while (rows > 0) {
    const std::int64_t now = rows < most ? rows : most;
    switch (now) {
      case 8: flash_tile<E, most < 8 ? most : 8, N, add>(a, steps, b, b_step, depth, c, c_stride); break;
      case 7: flash_tile<E, most < 7 ? most : 7, N, add>(a, steps, b, b_step, depth, c, c_stride); break;
      case 6: flash_tile<E, most < 6 ? most : 6, N, add>(a, steps, b, b_step, depth, c, c_stride); break;
      case 5: flash_tile<E, 5, N, add>(a, steps, b, b_step, depth, c, c_stride); break;
      case 4: flash_tile<E, 4, N, add>(a, steps, b, b_step, depth, c, c_stride); break;
      case 3: flash_tile<E, 3, N, add>(a, steps, b, b_step, depth, c, c_stride); break;
      case 2: flash_tile<E, 2, N, add>(a, steps, b, b_step, depth, c, c_stride); break;
      default: flash_tile<E, 1, N, add>(a, steps, b, b_step, depth, c, c_stride); break;
    }
    rows -= now;
    a += now * steps.row;
    c += now * c_stride;
  }
}

/// c (rows, 16 registers) (+)= a b, the columns in tiles of at most five registers.
template <class E, bool add>
inline void flash_product(std::int64_t rows, std::int64_t registers, const typename E::type* a, FlashSteps steps,
                          const typename E::type* b, std::int64_t b_step, std::int64_t depth, float* c,
                          std::int64_t c_stride) {
  std::int64_t tiles = (registers + 4) / 5;
  for (; registers > 0; --tiles) {
    const std::int64_t now = (registers + tiles - 1) / tiles;
    switch (now) {
      case 5: flash_rows<E, 5, add>(rows, a, steps, b, b_step, depth, c, c_stride); break;
      case 4: flash_rows<E, 4, add>(rows, a, steps, b, b_step, depth, c, c_stride); break;
      case 3: flash_rows<E, 3, add>(rows, a, steps, b, b_step, depth, c, c_stride); break;
      case 2: flash_rows<E, 2, add>(rows, a, steps, b, b_step, depth, c, c_stride); break;
      default: flash_rows<E, 1, add>(rows, a, steps, b, b_step, depth, c, c_stride); break;
    }
    registers -= now;
    b += now * lanes * E::pair;
    c += now * lanes;
  }
}

inline void flash_clear(float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = 0;
}

/// Buffers of one thread.
template <class E>
struct FlashScratch {
  float *scores, *sums, *top, *total;
  typename E::type* weights;

  static std::int64_t size(const FlashShape<E>& shape) {
    return flash_queries * (2 * key_block + shape.width()) + 2 * up(flash_queries, lanes);
  }
  FlashScratch(const FlashShape<E>& shape, float* at)
      : scores(at), sums(scores + flash_queries * key_block), top(sums + flash_queries * shape.width()),
        total(top + up(flash_queries, lanes)),
        weights(reinterpret_cast<typename E::type*>(total + up(flash_queries, lanes))) {}
};

/// Lanes [from, to) of a register; bounds may lie outside of it.
inline __mmask16 lanes_within(std::int64_t from, std::int64_t to) {
  const auto below = [](std::int64_t n) { return n <= 0 ? 0U : n >= lanes ? 0xffffU : (1U << n) - 1; };
  return static_cast<__mmask16>(below(to) & ~below(from));
}

/// One row's scores of a block become weights relative to the largest score so far; earlier sums are scaled down to it. Of `padded`
/// scores those of keys [from, to) count.
template <class E>
inline void flash_weigh(const FlashShape<E>& shape, const FlashScratch<E>& s, int row, std::int64_t from, std::int64_t to,
                        std::int64_t padded, float scale) {
  float* scores = s.scores + row * key_block;
  const __m512 least = _mm512_set1_ps(-__builtin_inff());
  for (std::int64_t i = 0; i < padded; i += lanes)
    if (i < from || i + lanes > to)
      _mm512_storeu_ps(scores + i, _mm512_mask_loadu_ps(least, lanes_within(from - i, to - i), scores + i));
  __m512 greatest = least;
  for (std::int64_t i = 0; i < padded; i += lanes) greatest = _mm512_max_ps(greatest, _mm512_loadu_ps(scores + i));
  const float before = s.top[row], here = _mm512_reduce_max_ps(greatest), top = here > before ? here : before;
  const __m512 unit = _mm512_set1_ps(scale), shift = _mm512_set1_ps(-top * scale);
  __m512 total = _mm512_setzero_ps();
  for (std::int64_t i = 0; i < padded; i += lanes) {
    const __m512 e = exp2<E::degree>(_mm512_fmadd_ps(_mm512_loadu_ps(scores + i), unit, shift));
    total = _mm512_add_ps(total, e);
    E::put(s.weights + row * key_block + i, e);
  }
  s.top[row] = top;
  if (top == before) {
    s.total[row] += _mm512_reduce_add_ps(total);
    return;
  }
  const float kept = _mm512_cvtss_f32(exp2<5>(_mm512_set1_ps((before - top) * scale)));
  s.total[row] = s.total[row] * kept + _mm512_reduce_add_ps(total);
  float* sums = s.sums + row * shape.width();
  for (std::int64_t i = 0; i < shape.width(); i += lanes)
    _mm512_storeu_ps(sums + i, _mm512_mul_ps(_mm512_loadu_ps(sums + i), _mm512_set1_ps(kept)));
}

/// softcap * tanh(scale * score / softcap) in the place of n scores, a multiple of 16.
template <class E>
inline void flash_cap(float* scores, std::int64_t n, float scale, float softcap) {
  const __m512 inner = _mm512_set1_ps(scale / softcap), outer = _mm512_set1_ps(softcap);
  for (std::int64_t i = 0; i < n; i += lanes)
    _mm512_storeu_ps(scores + i, _mm512_mul_ps(outer, tanh<E::degree>(_mm512_mul_ps(_mm512_loadu_ps(scores + i), inner))));
}

template <class E>
inline void flash_block(const FlashArgs& a, std::int64_t batch, std::int64_t head, const float* packed,
                        std::int64_t begin, int rows, const FlashScratch<E>& s) {
  using T = typename E::type;
  const FlashShape<E> shape(a);
  const T* keys = reinterpret_cast<const T*>(packed);
  const T* values = keys + shape.value_at;
  const FlashRows<T> q(a.q, batch, head);
  for (int r = 0; r < rows; ++r) {
    s.top[r] = -2.0e38F;  // below every score that is a number, and no infinity: differences stay numbers
    s.total[r] = 0;
  }
  flash_clear(s.sums, rows * shape.width());
  const float scale = (a.softcap > 0 ? 1.0F : a.scale) * log2_e;  // powers of two
  const std::int64_t seen = a.causal ? a.past + begin + rows : a.keys;  // by any of the rows
  const std::int64_t unseen = a.window > 0 && a.past + begin >= a.window ? a.past + begin + 1 - a.window : 0;  // by all of them
  for (std::int64_t first = unseen / key_block * key_block; first < seen; first += key_block) {
    const std::int64_t count = seen - first < key_block ? seen - first : key_block;
    for (std::int64_t at = 0; at < count; at += chunk) {
      const std::int64_t left = count - at < chunk ? count - at : chunk;
      flash_product<E, false>(rows, up(left, lanes) / lanes, q[begin], {q.stride, E::pair}, keys + (first + at) * a.head_dim,
                              chunk * E::pair, shape.depth, s.scores + at, key_block);
    }
    for (int r = 0; r < rows; ++r) {
      const std::int64_t own = a.causal ? a.past + begin + r + 1 - first : count;
      if (a.softcap > 0) flash_cap<E>(s.scores + r * key_block, up(count, chunk), a.scale, a.softcap);
      flash_weigh<E>(shape, s, r, a.window > 0 ? own - a.window : 0, own < count ? own : count, up(count, chunk), scale);
    }
    flash_product<E, true>(rows, shape.registers, s.weights, {key_block, E::pair}, values + first * shape.width(),
                           shape.width() * E::pair, up(count, chunk) / E::pair, s.sums, shape.width());
  }
}

/// n sums times a factor, rounded.
template <class E>
inline void flash_put(const float* sums, std::int64_t n, float factor, typename E::type* out) {
  for (std::int64_t i = 0; i < n; i += lanes) {
    const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(sums + i), _mm512_set1_ps(factor));
    if (n - i >= lanes)
      E::put(out + i, x);
    else
      E::put_partial(out + i, x, n - i);
  }
}

/// log2 of the sums of e^score of a block's queries.
inline void flash_sums(const FlashArgs& a, const float* top, const float* total, int rows, float* sums) {
  const float scale = (a.softcap > 0 ? 1.0F : a.scale) * log2_e;
  for (int r = 0; r < rows; ++r) sums[r] = top[r] * scale + __builtin_log2f(total[r]);
}

template <class E>
inline void flash_attend(const FlashArgs& a, std::int64_t batch, std::int64_t head, const float* packed,
                         std::int64_t begin, std::int64_t end, float* scratch) {
  using T = typename E::type;
  const FlashShape<E> shape(a);
  const FlashScratch<E> s(shape, scratch);
  for (std::int64_t at = begin; at < end; at += flash_queries) {
    const int rows = static_cast<int>(end - at < flash_queries ? end - at : flash_queries);
    flash_block<E>(a, batch, head, packed, at, rows, s);
    if (a.sums != nullptr) flash_sums(a, s.top, s.total, rows, a.sums + (batch * a.heads + head) * a.queries + at);
    for (int r = 0; r < rows; ++r) {
      T* out = static_cast<T*>(a.out) + ((batch * a.queries + at + r) * a.heads + head) * a.head_dim;
      flash_put<E>(s.sums + r * shape.width(), a.head_dim, 1.0F / s.total[r], out);
    }
  }
}

}  // namespace
}  // namespace atelier::nn::kernels
