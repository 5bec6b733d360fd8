// Plain C++, for every processor: the reference that the other instruction sets must equal bit for bit.
#include "nn/kernels/quantised_impl.h"

namespace atelier::nn::kernels {
namespace {

struct Plain {
  struct ints {
    std::int32_t v[16];
  };
  struct floats {
    float v[16];
  };
  struct line {
    std::uint8_t v[64];
  };
  static constexpr std::int64_t tile = 2;

  template <class F>
  static floats each(F f) {
    floats r;
    for (int i = 0; i < 16; ++i) r.v[i] = f(i);
    return r;
  }
  static line load(const std::uint8_t* p) {
    line r;
    for (int i = 0; i < 64; ++i) r.v[i] = p[i];
    return r;
  }
  static line low_halves(const line& a) {
    line r;
    for (int i = 0; i < 64; ++i) r.v[i] = a.v[i] & 15;
    return r;
  }
  static line high_halves(const line& a) {
    line r;
    for (int i = 0; i < 64; ++i) r.v[i] = a.v[i] >> 4;
    return r;
  }
  static ints start(const std::int32_t*) { return start4(); }
  static ints start4() {
    ints r;
    for (int i = 0; i < 16; ++i) r.v[i] = 0;
    return r;
  }
  static ints multiply_add8(const line& w, const std::int8_t* x, ints sum) {
    for (int i = 0; i < 16; ++i)
      for (int k = 0; k < 4; ++k) sum.v[i] += (w.v[4 * i + k] - 128) * x[k];
    return sum;
  }
  static ints multiply_add4(const line& w, const std::int8_t* x, ints sum) {
    for (int i = 0; i < 16; ++i)
      for (int k = 0; k < 4; ++k) sum.v[i] += w.v[4 * i + k] * x[k];
    return sum;
  }
  static floats to_floats(const ints& a) {
    return each([&](int i) { return static_cast<float>(a.v[i]); });
  }
  static floats zero() { return set1(0); }
  static floats set1(float x) {
    return each([=](int) { return x; });
  }
  static floats add(const floats& a, const floats& b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
  }
  static floats mul(const floats& a, const floats& b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
  }
  static floats widen_u8(const std::uint8_t* p) {
    return each([=](int i) { return static_cast<float>(p[i]); });
  }
  static floats widen_i8(const std::uint8_t* p) {
    return each([=](int i) { return static_cast<float>(static_cast<std::int8_t>(p[i])); });
  }
  static floats load_floats(const float* p) {
    return each([=](int i) { return p[i]; });
  }
  static void store(float* p, const floats& a) {
    for (int i = 0; i < 16; ++i) p[i] = a.v[i];
  }
};

}  // namespace

extern const QuantisedTable quantised_scalar_table;
const QuantisedTable quantised_scalar_table = QuantisedKernels<Plain>::make("scalar");

}  // namespace atelier::nn::kernels
