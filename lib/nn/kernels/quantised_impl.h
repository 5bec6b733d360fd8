#pragma once

// Bodies of the kernels of quantised.h, written once over an instruction set Q and compiled once for each; see impl.h for why
// everything is in an unnamed namespace. What is not a product is plain C++ over sixteen numbers at a time, in an order that is
// the same for every compiler that vectorises it.
//
// Q supplies: `ints` (16 i32), `floats` (16 f32), `line` (64 bytes), `tile` = most rows of activations at once; load(const u8*),
// low_halves(line), high_halves(line) of its bytes, start(const i32* of PackedActivations::starts) = where the sum of a group of
// 8-bit weights begins, so that multiply_add8(line, const i8* x, ints) over the group gives sum (code - 128) x, and start4(),
// multiply_add4 likewise for sum code x; to_floats(ints), zero(), set1(float), add, mul, widen_u8(const u8*), widen_i8(const u8*), load_floats, store.

#include "nn/kernels/impl.h"
#include "nn/kernels/quantised.h"

namespace atelier::nn::kernels {
namespace {

constexpr std::int64_t line_bytes = 64;
constexpr std::int64_t codes_ahead = 2048, scales_ahead = 512;  ///< prefetched
constexpr std::int64_t cached_rows = 64, cached_codes = 256 << 10;          ///< rows, and bytes of weights, for the second cache

inline std::uint32_t magnitude_bits(float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits & 0x7fffffffU;
}
inline float of_bits(std::uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
constexpr std::uint32_t infinity_bits = 0x7f800000U;

/// To the nearest whole number, ties to even; |x| < 2^22.
inline float round_even(float x) {
  constexpr float magic = 12582912.0F;  // 1.5 * 2^23
  return (x + magic) - magic;
}

/// The sum of n numbers f(i), a multiple of 16, in a fixed order.
template <class F>
inline float sum16(std::int64_t n, F f) {
  float lanes[16] = {};
  for (std::int64_t i = 0; i < n; i += 16)
    for (int l = 0; l < 16; ++l) lanes[l] += f(i + l);
  for (int half = 8; half > 0; half /= 2)
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  return lanes[0];
}

/// n numbers as floats, and zeros up to `padded`. Returns the bits of the largest magnitude; infinity's or more: one is not
/// finite.
template <class T>
inline std::uint32_t load_group(const T* from, std::int64_t n, std::int64_t padded, float* to) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = widen(from[i]);
  for (std::int64_t i = n; i < padded; ++i) to[i] = 0;
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < padded; ++i) {
    const std::uint32_t bits = magnitude_bits(to[i]);
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

template <class T>
inline void quantise_activations_typed(const T* x, std::int64_t in, const PackedActivations& a, std::int64_t begin,
                                       std::int64_t end) {
  constexpr float smallest = 1e-30F;  // below it a reciprocal could overflow; such a group counts as 0
  float values[128];
  for (std::int64_t row = begin; row < end; ++row)
    for (std::int64_t g = 0; g < a.groups; ++g) {
      const std::int64_t first = g * a.group, n = in - first < a.group ? in - first : a.group;
      const std::uint32_t bits = load_group(x + row * in + first, n, a.group, values);
      const float largest = of_bits(bits);
      const bool finite = bits < infinity_bits;
      const float inverse = finite && largest > smallest ? 127.0F / largest : 0.0F;
      std::int8_t* codes = a.codes + row * a.groups * a.group + first;
      std::int32_t sum = 0;
      for (std::int64_t i = 0; i < a.group; ++i) {
        const auto code = finite ? static_cast<std::int32_t>(round_even(values[i] * inverse)) : 0;
        codes[i] = static_cast<std::int8_t>(code);
        sum += code;
      }
      const float scale = !finite ? of_bits(0x7fc00000U) : largest > smallest ? largest / 127.0F : 0.0F;
      a.scales[row * a.groups + g] = scale;
      a.sums[row * a.groups + g] = scale * static_cast<float>(sum);
      a.starts[row * a.groups + g] = -128 * sum;
    }
}

/// B rows of activations, `stride` apart, times the 16 rows of a block over 32 columns.
template <class Q, int Bits, int B>
inline void packed_columns(const std::uint8_t* codes, const std::int8_t* x, std::int64_t stride, typename Q::ints (&sum)[B]) {
  const std::int8_t* rows[B];
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) {
    rows[b] = x + b * stride;
    asm("" : "+r"(rows[b]));  // one register each: gcc would keep a sum for every place in memory
  }
#pragma GCC unroll 8
  for (int l = 0; l < Bits; ++l) {  // a line has 4 columns of 8 bits, or 8 of 4
    __builtin_prefetch(codes + l * line_bytes + codes_ahead);
    const auto line = Q::load(codes + l * line_bytes);
    if constexpr (Bits == 8) {
      for (int b = 0; b < B; ++b) sum[b] = Q::multiply_add8(line, rows[b] + 4 * l, sum[b]);
    } else {
      const auto low = Q::low_halves(line), high = Q::high_halves(line);
      for (int b = 0; b < B; ++b) sum[b] = Q::multiply_add4(low, rows[b] + 8 * l, sum[b]);
      for (int b = 0; b < B; ++b) sum[b] = Q::multiply_add4(high, rows[b] + 8 * l + 4, sum[b]);
    }
  }
}

/// B rows of activations times the 16 rows of a block.
template <class Q, int Bits, int B>
inline void packed_tile(const PackedLinearArgs& a, std::int64_t block, std::int64_t row, float (&y)[B][packed_rows]) {
  const PackedShape& s = a.w.shape;
  const std::int64_t groups = s.groups(), columns = groups * s.group;
  const std::uint8_t* codes = a.w.codes + block * groups * s.group_bytes();
  const std::uint8_t* scales = a.w.scales + block * groups * s.scale_bytes();
  const std::int8_t* x = a.x.codes + row * columns;
  typename Q::floats total[B], lows[B];
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) total[b] = lows[b] = Q::zero();
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t at = row * groups + g;  // in what there is for each row and group
    typename Q::ints sum[B];
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) sum[b] = Bits == 8 ? Q::start(a.x.starts + at + b * groups) : Q::start4();
    for (std::int64_t k = 0; k < s.group; k += 32) {
      packed_columns<Q, Bits, B>(codes, x, columns, sum);
      codes += Bits * line_bytes;
      x += 32;
    }
    __builtin_prefetch(scales + scales_ahead);
    const auto scale = Q::widen_u8(scales);
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b)
      total[b] = Q::add(total[b], Q::mul(Q::to_floats(sum[b]), Q::mul(scale, Q::set1(a.x.scales[at + b * groups]))));
    if constexpr (Bits == 4) {
      const auto low = Q::widen_i8(scales + packed_rows);
  #pragma GCC unroll 8
    for (int b = 0; b < B; ++b) lows[b] = Q::add(lows[b], Q::mul(low, Q::set1(a.x.sums[at + b * groups])));
    }
    scales += s.scale_bytes();
  }
  const float* units = a.w.units + block * s.units();
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) {
    auto sum = Q::mul(total[b], Q::load_floats(units));
    if constexpr (Bits == 4) sum = Q::add(sum, Q::mul(lows[b], Q::load_floats(units + packed_rows)));
    Q::store(y[b], sum);
  }
}

template <class T>
inline void store_row(const float* sums, const void* bias, std::int64_t first, std::int64_t n, T* y) {
  const T* b = static_cast<const T*>(bias);
  for (std::int64_t i = 0; i < n; ++i) narrow(b ? sums[i] + widen(b[first + i]) : sums[i], y + i);
}

template <class Q, int Bits, int B>
inline void packed_rows_of(const PackedLinearArgs& a, std::int64_t block, std::int64_t row) {
  float sums[B][packed_rows];
  packed_tile<Q, Bits, B>(a, block, row, sums);
  const std::int64_t first = block * packed_rows, out = a.w.shape.out,
                     n = out - first < packed_rows ? out - first : packed_rows;
  for (int b = 0; b < B; ++b) {
    const std::int64_t at = (row + b) * out + first;
    if (a.type == Type::float32) {
      store_row(sums[b], a.bias, first, n, static_cast<float*>(a.y) + at);
    } else if (!a.y_f32) {
      store_row(sums[b], a.bias, first, n, static_cast<bf16*>(a.y) + at);
    } else {
      const bf16* bias = static_cast<const bf16*>(a.bias);
      float* y = static_cast<float*>(a.y) + at;
      for (std::int64_t i = 0; i < n; ++i) y[i] = bias ? sums[b][i] + widen(bias[first + i]) : sums[b][i];
    }
  }
}

/// What is left of the rows before `end` after whole tiles: halves of a tile, down to one row.
template <class Q, int Bits, int B>
inline void packed_rest(const PackedLinearArgs& a, std::int64_t block, std::int64_t row, std::int64_t end) {
  if constexpr (B > 0) {
    if (end - row >= B) {
      packed_rows_of<Q, Bits, B>(a, block, row);
      row += B;
    }
    packed_rest<Q, Bits, B / 2>(a, block, row, end);
  }
}

/// Many rows of activations are taken a few at a time against some blocks of the weights, so that both stay in a core's own cache.
template <class Q, int Bits>
inline void packed_blocks(const PackedLinearArgs& a, std::int64_t begin, std::int64_t end) {
  const std::int64_t bytes = a.w.shape.groups() * a.w.shape.group_bytes();
  const std::int64_t blocks = cached_codes > bytes ? cached_codes / bytes : 1;
  for (std::int64_t first = begin; first < end; first += blocks) {
    const std::int64_t last = first + blocks < end ? first + blocks : end;
    for (std::int64_t low = 0; low < a.rows; low += cached_rows) {
      const std::int64_t high = low + cached_rows < a.rows ? low + cached_rows : a.rows;
      for (std::int64_t block = first; block < last; ++block) {
        std::int64_t row = low;
        for (; row + Q::tile <= high; row += Q::tile) packed_rows_of<Q, Bits, Q::tile>(a, block, row);
        packed_rest<Q, Bits, Q::tile / 2>(a, block, row, high);
      }
    }
  }
}

/// Where the code of a block's row and of column `k` of a group lies among the group's bytes.
inline std::int64_t place8(std::int64_t row, std::int64_t k) { return k / 4 * line_bytes + row * 4 + k % 4; }
inline std::int64_t place4(std::int64_t row, std::int64_t k) { return k / 8 * line_bytes + row * 4 + k % 4; }

template <class T>
inline void unpack_typed(const PackedMatrix& w, T* y, std::int64_t begin, std::int64_t end) {
  const PackedShape& s = w.shape;
  const std::int64_t groups = s.groups();
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t block = row / packed_rows, r = row % packed_rows;
    const float* units = w.units + block * s.units();
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::uint8_t* codes = w.codes + (block * groups + g) * s.group_bytes();
      const std::uint8_t* scales = w.scales + (block * groups + g) * s.scale_bytes();
      const std::int64_t first = g * s.group, n = s.in - first < s.group ? s.in - first : s.group;
      const float scale = units[r] * static_cast<float>(scales[r]);
      T* to = y + (row - begin) * s.in + first;
      if (s.bits == 8) {
        for (std::int64_t k = 0; k < n; ++k) narrow(scale * static_cast<float>(codes[place8(r, k)] - 128), to + k);
        continue;
      }
      const float low = units[packed_rows + r] * static_cast<float>(static_cast<std::int8_t>(scales[packed_rows + r]));
      for (std::int64_t k = 0; k < n; ++k) {
        const int code = codes[place4(r, k)] >> (k % 8 < 4 ? 0 : 4) & 15;
        narrow(scale * static_cast<float>(code) + low, to + k);
      }
    }
  }
}

inline float nearest_code(float y, float inverse) {
  const float code = round_even(y * inverse);
  return code < 0 ? 0 : code > 15 ? 15 : code;
}

/// The scale and lowest value of n numbers (a multiple of 16, all finite) for codes 0..15. For a number of ways to lay the 16
/// levels over the numbers' range, the nearest codes are taken, and for them the scale and offset with the least squared error
/// are known in closed form; the best way wins.
inline void find_scale4(const float* x, const float* importance, std::int64_t n, float* scale, float* low) {
  float least = x[0], most = x[0];
  for (std::int64_t i = 1; i < n; ++i) {
    least = x[i] < least ? x[i] : least;
    most = x[i] > most ? x[i] : most;
  }
  const float range = most - least;
  *scale = range / 15;
  *low = least;
  if (!(range > 0) || range > 1e30F) return;
  float y[128], w[128], codes[128];
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] - least;
  for (std::int64_t i = 0; i < n; ++i) w[i] = importance ? importance[i] : 1.0F;
  const float sum_w = sum16(n, [&](std::int64_t i) { return w[i]; });
  const float sum_y = sum16(n, [&](std::int64_t i) { return w[i] * y[i]; });
  const float sum_yy = sum16(n, [&](std::int64_t i) { return w[i] * y[i] * y[i]; });
  float best = of_bits(infinity_bits);
  constexpr int widths = 8, shifts = 3;
  for (int width = 0; width < widths; ++width)
    for (int shift = 0; shift < shifts; ++shift) {
      // Levels over the range, from 14 to 19.25; those beyond 15 hang over at the lower end, at both, or at the upper one.
      const float levels = 14.0F + 0.75F * static_cast<float>(width), over = levels - 15.0F;
      const float inverse = levels / range, offset = over * 0.5F * static_cast<float>(shift);
      for (std::int64_t i = 0; i < n; ++i) codes[i] = nearest_code(y[i] - offset / inverse, inverse);
      const float sum_q = sum16(n, [&](std::int64_t i) { return w[i] * codes[i]; });
      const float sum_qq = sum16(n, [&](std::int64_t i) { return w[i] * codes[i] * codes[i]; });
      const float sum_qy = sum16(n, [&](std::int64_t i) { return w[i] * codes[i] * y[i]; });
      const float determinant = sum_w * sum_qq - sum_q * sum_q;
      if (!(determinant > 0)) continue;
      const float s = (sum_w * sum_qy - sum_q * sum_y) / determinant, m = (sum_y - s * sum_q) / sum_w;
      const float error = sum_yy - s * sum_qy - m * sum_y;
      if (error < best && s > 0) {
        best = error;
        *scale = s;
        *low = least + m;
      }
    }
}

inline void find_scale_of(int bits, const float* w, const float* importance, std::int64_t n, float* scale, float* low) {
  float values[128], weights[128];
  std::int64_t padded = (n + 15) / 16 * 16;
  for (std::int64_t i = 0; i < padded; ++i) values[i] = i < n ? w[i] : w[0];
  if (bits == 4) {
    // Columns that are not there repeat the first and do not count.
    for (std::int64_t i = 0; i < padded; ++i) weights[i] = i >= n ? 0.0F : importance ? importance[i] : 1.0F;
    find_scale4(values, importance || padded > n ? weights : nullptr, padded, scale, low);
    return;
  }
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < padded; ++i) {
    const std::uint32_t bits_of = magnitude_bits(values[i]);
    largest = bits_of > largest ? bits_of : largest;
  }
  *scale = of_bits(largest) / 127;
  *low = *scale * -128;
}

/// The codes of one row's group, given what its scale came to.
template <class T>
inline void encode_group(const PackArgs& a, const T* from, std::int64_t n, std::int64_t r, float scale, float low,
                         std::uint8_t* codes) {
  const float inverse = scale > 1e-37F ? 1 / scale : 0;
  if (a.shape.bits == 8) {
    for (std::int64_t k = 0; k < n; ++k) {
      const float code = round_even(widen(from[k]) * inverse);
      codes[place8(r, k)] = static_cast<std::uint8_t>(static_cast<int>(code < -127  ? -127
                                                                       : code > 127 ? 127
                                                                                    : code) +
                                                      128);
    }
    for (std::int64_t k = n; k < a.shape.group; ++k) codes[place8(r, k)] = 0;
    return;
  }
  for (std::int64_t k = 0; k < a.shape.group; ++k) {
    const int code = k < n ? static_cast<int>(nearest_code(widen(from[k]) - low, inverse)) : 0;
    std::uint8_t& pair = codes[place4(r, k)];
    pair = static_cast<std::uint8_t>(k % 8 < 4 ? code : pair | code << 4);
  }
}

/// One row of a block: scales of all groups first, for the row's units follow from them.
template <class T>
inline void pack_row(const PackArgs& a, std::int64_t block, std::int64_t r) {
  const PackedShape& s = a.shape;
  const std::int64_t groups = s.groups(), row = block * packed_rows + r;
  const T* w = static_cast<const T*>(a.w) + row * s.in;
  float *scale = a.scratch, *low = scale + groups, *values = low + groups;
  float most = 0, farthest = 0;
  bool finite = true;
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t first = g * s.group, n = s.in - first < s.group ? s.in - first : s.group;
    finite = load_group(w + first, n, n, values) < infinity_bits && finite;
    if (!finite) break;
    find_scale_of(s.bits, values, a.importance ? a.importance + first : nullptr, n, scale + g, low + g);
    most = scale[g] > most ? scale[g] : most;
    const float distance = low[g] < 0 ? -low[g] : low[g];
    farthest = distance > farthest ? distance : farthest;
  }
  float* units = a.units + block * s.units() + r;
  units[0] = finite ? most / 255 : of_bits(0x7fc00000U);
  if (s.bits == 4) units[packed_rows] = finite ? farthest / 127 : 0;
  if (!finite) return;
  const float per_unit = most > 1e-37F ? 255 / most : 0, per_low = farthest > 1e-37F ? 127 / farthest : 0;
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t first = g * s.group, n = s.in - first < s.group ? s.in - first : s.group;
    std::uint8_t* scales = a.scales + (block * groups + g) * s.scale_bytes() + r;
    float code = round_even(scale[g] * per_unit);
    // Of 8 bits the largest number must be within reach: upwards. None that is needed is 0.
    if (s.bits == 8 && code < scale[g] * per_unit * 0.99999F) code += 1;
    if (code < 1 && scale[g] > 0) code = 1;
    scales[0] = static_cast<std::uint8_t>(code > 255 ? 255 : code);
    float lowest = 0;
    if (s.bits == 4) {
      const auto low_code = static_cast<std::int8_t>(round_even(low[g] * per_low));
      scales[packed_rows] = static_cast<std::uint8_t>(low_code);
      lowest = units[packed_rows] * static_cast<float>(low_code);
    }
    encode_group(a, w + first, n, r, units[0] * static_cast<float>(scales[0]), lowest,
                 a.codes + (block * groups + g) * s.group_bytes());
  }
}

/// A row of a block that the matrix does not have.
inline void pack_nothing(const PackArgs& a, std::int64_t block, std::int64_t r) {
  const PackedShape& s = a.shape;
  const std::int64_t groups = s.groups();
  for (std::int64_t u = r; u < s.units(); u += packed_rows) a.units[block * s.units() + u] = 0;
  for (std::int64_t g = 0; g < groups; ++g) {
    std::uint8_t* scales = a.scales + (block * groups + g) * s.scale_bytes();
    for (std::int64_t u = r; u < s.scale_bytes(); u += packed_rows) scales[u] = 0;
    std::uint8_t* codes = a.codes + (block * groups + g) * s.group_bytes();
    for (std::int64_t k = 0; k < s.group; ++k) codes[s.bits == 8 ? place8(r, k) : place4(r, k)] = 0;
  }
}

/// The table of an instruction set.
template <class Q>
struct QuantisedKernels {
  static void quantise_activations(Type type, const void* x, std::int64_t in, const PackedActivations& a,
                                   std::int64_t begin, std::int64_t end) {
    if (type == Type::bfloat16)
      quantise_activations_typed(static_cast<const bf16*>(x), in, a, begin, end);
    else
      quantise_activations_typed(static_cast<const float*>(x), in, a, begin, end);
  }
  static void linear(const PackedLinearArgs& a, std::int64_t begin, std::int64_t end) {
    if (a.w.shape.bits == 8)
      packed_blocks<Q, 8>(a, begin, end);
    else
      packed_blocks<Q, 4>(a, begin, end);
  }
  static void unpack(const PackedMatrix& w, Type type, void* y, std::int64_t begin, std::int64_t end) {
    if (type == Type::bfloat16)
      unpack_typed(w, static_cast<bf16*>(y), begin, end);
    else
      unpack_typed(w, static_cast<float*>(y), begin, end);
  }
  static void pack(const PackArgs& a, std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block)
      for (std::int64_t r = 0; r < packed_rows; ++r)
        if (block * packed_rows + r >= a.shape.out)
          pack_nothing(a, block, r);
        else if (a.type == Type::bfloat16)
          pack_row<bf16>(a, block, r);
        else
          pack_row<float>(a, block, r);
  }
  static void find_scale(int bits, const float* w, const float* importance, std::int64_t n, float* scale, float* low) {
    find_scale_of(bits, w, importance, n, scale, low);
  }
  static constexpr QuantisedTable make(const char* name) {
    return {name, quantise_activations, linear, unpack, pack, find_scale};
  }
};

}  // namespace
}  // namespace atelier::nn::kernels
