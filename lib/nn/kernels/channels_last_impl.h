#pragma once

// Bodies of channels_last.h over a vector type V; see impl.h.

#include "nn/kernels/channels_last.h"
#include "nn/kernels/impl.h"

namespace atelier::nn::kernels {
namespace {

template <class T>
inline const T* pixel(const GroupNormArgs& a, std::int64_t batch, std::int64_t p) {
  return static_cast<const T*>(a.x) + (batch * a.pixels + p) * a.channels;
}

/// R registers of channels from `c` on.
template <class V, class T, int R>
inline void channel_sums(const GroupNormArgs& a, std::int64_t batch, std::int64_t first, std::int64_t last, std::int64_t c, float* sums) {
  const std::int64_t left = a.channels - c;
  typename V::reg origin[R], sum[R], square[R];
  for (int r = 0; r < R; ++r) {
    origin[r] = load_n<V>(pixel<T>(a, batch, 0) + c + r * V::width, left - r * V::width);
    sum[r] = square[r] = V::zero();
  }
  for (std::int64_t p = first; p < last; ++p) {
    const T* x = pixel<T>(a, batch, p) + c;
    for (int r = 0; r < R; ++r) {
      const auto d = V::sub(load_n<V>(x + r * V::width, left - r * V::width), origin[r]);
      sum[r] = V::add(sum[r], d);
      square[r] = V::fma(d, d, square[r]);
    }
  }
  for (int r = 0; r < R; ++r) {
    store_n<V>(sums + c + r * V::width, sum[r], left - r * V::width);
    store_n<V>(sums + a.channels + c + r * V::width, square[r], left - r * V::width);
  }
}

template <class V, class T>
inline void group_norm_sums_typed(const GroupNormArgs& a, std::int64_t batch, std::int64_t first, std::int64_t last, float* sums) {
  std::int64_t c = 0;
  for (; c + 4 * V::width <= a.channels; c += 4 * V::width) channel_sums<V, T, 4>(a, batch, first, last, c, sums);
  for (; c < a.channels; c += V::width) channel_sums<V, T, 1>(a, batch, first, last, c, sums);
}

/// Mean and variance of each channel first, then of the groups: no difference of large numbers is taken.
template <class T>
inline void group_norm_fold_typed(const GroupNormArgs& a, std::int64_t batch, std::int64_t blocks, const float* sums, float* map) {
  const T* origin = pixel<T>(a, batch, 0);
  const std::int64_t size = a.channels / a.groups;
  const double n = static_cast<double>(a.pixels);
  const auto added = [&](std::int64_t c) { return a.added ? static_cast<double>(a.added[batch * a.channels + c]) : 0.0; };
  const auto moments = [&](std::int64_t c, double& mean, double& variance) {
    double sum = 0, square = 0;
    for (std::int64_t b = 0; b < blocks; ++b) {
      sum += static_cast<double>(sums[b * 2 * a.channels + c]);
      square += static_cast<double>(sums[(b * 2 + 1) * a.channels + c]);
    }
    mean = static_cast<double>(widen(origin[c])) + added(c) + sum / n;
    variance = square / n - sum / n * (sum / n);
  };
  for (std::int64_t g = 0; g < a.groups; ++g) {
    double mean = 0, own = 0, variance = 0;
    for (std::int64_t c = g * size; c < (g + 1) * size; ++c) {
      moments(c, own, variance);
      mean += own / static_cast<double>(size);
    }
    double total = 0;
    for (std::int64_t c = g * size; c < (g + 1) * size; ++c) {
      moments(c, own, variance);
      total += (variance + (own - mean) * (own - mean)) / static_cast<double>(size);
    }
    if (total < 0) total = 0;  // by rounding; NaN stays
    const double inverse = 1 / __builtin_sqrt(total + static_cast<double>(a.eps));
    for (std::int64_t c = g * size; c < (g + 1) * size; ++c) {
      const double factor = static_cast<double>(widen(static_cast<const T*>(a.weight)[c])) * inverse;
      map[c] = static_cast<float>(factor);
      map[a.channels + c] = static_cast<float>(static_cast<double>(widen(static_cast<const T*>(a.bias)[c])) + (added(c) - mean) * factor);
    }
  }
}

template <class V, class T, bool silu>
inline void group_norm_apply_typed(const GroupNormArgs& a, std::int64_t batch, std::int64_t first, std::int64_t last, const float* map) {
  for (std::int64_t p = first; p < last; ++p) {
    const T* x = pixel<T>(a, batch, p);
    T* y = static_cast<T*>(a.y) + (batch * a.pixels + p) * a.channels;
    for (std::int64_t c = 0; c < a.channels; c += V::width) {
      const std::int64_t left = a.channels - c;
      auto v = V::fma(load_n<V>(x + c, left), load_n<V>(map + c, left), load_n<V>(map + a.channels + c, left));
      if constexpr (silu) v = V::div(v, V::add(V::set1(1.0F), exp<V>(V::sub(V::zero(), v))));
      store_n<V>(y + c, v, left);
    }
  }
}

/// gelu(x) = x Phi(x), Phi by formula 7.1.26 of Abramowitz and Stegun: absolute error of Phi below 1e-7.
template <class V>
inline typename V::reg gelu(typename V::reg x) {
  const auto zero = V::zero(), one = V::set1(1.0F);
  const auto z = V::mul(V::max(x, V::sub(zero, x)), V::set1(0.707106781F));
  const auto t = V::div(one, V::fma(z, V::set1(0.3275911F), one));
  auto p = V::set1(1.061405429F);
  p = V::fma(p, t, V::set1(-1.453152027F));
  p = V::fma(p, t, V::set1(1.421413741F));
  p = V::fma(p, t, V::set1(-0.284496736F));
  p = V::fma(p, t, V::set1(0.254829592F));
  const auto tail = V::mul(V::mul(V::mul(p, t), exp<V>(V::sub(zero, V::mul(z, z)))), V::set1(0.5F));  // 1 - Phi(|x|)
  // x Phi(x) = max(x, 0) - |x| (1 - Phi(|x|))
  return V::sub(V::max(zero, x), V::mul(V::max(x, V::sub(zero, x)), tail));
}

template <class V, class T>
inline void gelu_gate_typed(const T* x, T* y, std::int64_t n, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row) {
    const T* a = x + row * 2 * n;
    for (std::int64_t i = 0; i < n; i += V::width)
      store_n<V>(y + row * n + i, V::mul(load_n<V>(a + i, n - i), gelu<V>(load_n<V>(a + n + i, n - i))), n - i);
  }
}

template <class V>
struct ChannelsLastOf {
  static void sums(const GroupNormArgs& a, std::int64_t batch, std::int64_t first, std::int64_t last, float* out) {
    if (a.type == Type::bfloat16)
      group_norm_sums_typed<V, bf16>(a, batch, first, last, out);
    else
      group_norm_sums_typed<V, float>(a, batch, first, last, out);
  }
  static void fold(const GroupNormArgs& a, std::int64_t batch, std::int64_t blocks, const float* sums, float* map) {
    if (a.type == Type::bfloat16)
      group_norm_fold_typed<bf16>(a, batch, blocks, sums, map);
    else
      group_norm_fold_typed<float>(a, batch, blocks, sums, map);
  }
  static void apply(const GroupNormArgs& a, std::int64_t batch, std::int64_t first, std::int64_t last, const float* map) {
    if (a.type == Type::bfloat16)
      a.silu ? group_norm_apply_typed<V, bf16, true>(a, batch, first, last, map)
             : group_norm_apply_typed<V, bf16, false>(a, batch, first, last, map);
    else
      a.silu ? group_norm_apply_typed<V, float, true>(a, batch, first, last, map)
             : group_norm_apply_typed<V, float, false>(a, batch, first, last, map);
  }
  static void gate(Type type, const void* x, void* y, std::int64_t n, std::int64_t begin, std::int64_t end) {
    if (type == Type::bfloat16)
      gelu_gate_typed<V>(static_cast<const bf16*>(x), static_cast<bf16*>(y), n, begin, end);
    else
      gelu_gate_typed<V>(static_cast<const float*>(x), static_cast<float*>(y), n, begin, end);
  }
  static constexpr ChannelsLast make() { return {sums, fold, apply, gate}; }
};

}  // namespace
}  // namespace atelier::nn::kernels
