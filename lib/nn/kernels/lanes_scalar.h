#pragma once

#include "nn/kernels/impl.h"

namespace atelier::nn::kernels {
namespace {

/// Eight lanes in plain C++, for every processor: the reference that the other instruction sets are tested against, and
/// written so that a compiler can use whatever vectors it has.
struct Lanes8 {
  static constexpr std::int64_t width = 8;
  struct reg {
    float v[8];
  };
  template <class F>
  static reg each(F f) {
    reg r;
    for (int i = 0; i < 8; ++i) r.v[i] = f(i);
    return r;
  }
  static reg zero() { return set1(0); }
  static reg set1(float x) {
    return each([=](int) { return x; });
  }
  template <class T>
  static reg load(const T* p) {
    return each([=](int i) { return widen(p[i]); });
  }
  template <class T>
  static reg load_partial(const T* p, std::int64_t n) {
    return each([=](int i) { return i < n ? widen(p[i]) : 0.0F; });
  }
  template <class T>
  static void store(T* p, reg r) {
    store_partial(p, r, 8);
  }
  template <class T>
  static void store_partial(T* p, reg r, std::int64_t n) {
    for (int i = 0; i < 8 && i < n; ++i) narrow(r.v[i], p + i);
  }
  static reg add(reg a, reg b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
  }
  static reg sub(reg a, reg b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
  }
  static reg mul(reg a, reg b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
  }
  static reg div(reg a, reg b) {
    return each([&](int i) { return a.v[i] / b.v[i]; });
  }
  static reg fma(reg a, reg b, reg c) {
    return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static reg max(reg a, reg b) {
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static reg min(reg a, reg b) {
    return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static reg round(reg a) {
    return each([&](int i) { return __builtin_rintf(a.v[i]); });
  }
  static reg pow2(reg n) {
    return each([&](int i) {
      const std::int32_t bits = (static_cast<std::int32_t>(n.v[i]) + 127) << 23;
      float f;
      __builtin_memcpy(&f, &bits, 4);
      return f;
    });
  }
  static float first(reg a) { return a.v[0]; }
  static float sum(reg a) { return ((a.v[0] + a.v[4]) + (a.v[2] + a.v[6])) + ((a.v[1] + a.v[5]) + (a.v[3] + a.v[7])); }
};

}  // namespace
}  // namespace atelier::nn::kernels
