// Kernels over pixels whose channels lie side by side, of every instruction set, against sums in double precision.
#include "nn/kernels/channels_last.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/seed.h"
#include "kernels/bf16.h"

namespace {

using namespace atelier::nn::kernels;
using atelier::test::to_bf16;
using atelier::test::to_float;

/// Numbers in both types with the same values, in [middle - 1, middle + 1].
struct Numbers {
  std::vector<float> f;
  std::vector<bf16> h;

  Numbers(std::int64_t n, std::uint64_t seed, double middle = 0) : f(static_cast<std::size_t>(n)), h(f.size()) {
    atelier::base::Generator generator(seed);
    for (std::size_t i = 0; i < f.size(); ++i) {
      h[i] = to_bf16(static_cast<float>(middle + atelier::base::uniform(generator) * 2 - 1));
      f[i] = to_float(h[i]);
    }
  }
  void* as(Type type) { return type == Type::bfloat16 ? static_cast<void*>(h.data()) : f.data(); }
  double at(std::int64_t i) const { return f[static_cast<std::size_t>(i)]; }
};

double read(const Numbers& numbers, Type type, std::int64_t i) {
  const auto at = static_cast<std::size_t>(i);
  return type == Type::bfloat16 ? to_float(numbers.h[at]) : numbers.f[at];
}

std::vector<const ChannelsLast*> tables() {
  std::vector<const ChannelsLast*> found;
  for (const char* name : {"scalar", "avx2", "avx512", "avx512bf16"})
    if (const auto* t = find_channels_last(name)) found.push_back(t);
  return found;
}

struct Shape {
  std::int64_t batch, pixels, channels, groups;
};

void run(const ChannelsLast& table, const GroupNormArgs& a) {
  const std::int64_t blocks = (a.pixels + group_norm_block - 1) / group_norm_block;
  std::vector<float> sums(static_cast<std::size_t>(blocks * 2 * a.channels)), map(static_cast<std::size_t>(2 * a.channels));
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t i = 0; i < blocks; ++i)
      table.group_norm_sums(a, b, i * group_norm_block, std::min(a.pixels, (i + 1) * group_norm_block),
                            sums.data() + i * 2 * a.channels);
    table.group_norm_fold(a, b, blocks, sums.data(), map.data());
    table.group_norm_apply(a, b, 0, a.pixels, map.data());
  }
}

/// Largest difference from the definition, in double precision.
double error_of(const Shape& s, Type type, Numbers& x, Numbers& weight, Numbers& bias, const std::vector<float>& added, bool silu,
                const Numbers& y) {
  const std::int64_t size = s.channels / s.groups;
  double worst = 0;
  const auto value = [&](std::int64_t b, std::int64_t p, std::int64_t c) {
    return x.at((b * s.pixels + p) * s.channels + c) + (added.empty() ? 0 : static_cast<double>(added[static_cast<std::size_t>(b * s.channels + c)]));
  };
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t g = 0; g < s.groups; ++g) {
      double mean = 0, variance = 0;
      const double n = static_cast<double>(s.pixels * size);
      for (std::int64_t p = 0; p < s.pixels; ++p)
        for (std::int64_t c = g * size; c < (g + 1) * size; ++c) mean += value(b, p, c) / n;
      for (std::int64_t p = 0; p < s.pixels; ++p)
        for (std::int64_t c = g * size; c < (g + 1) * size; ++c) variance += std::pow(value(b, p, c) - mean, 2) / n;
      for (std::int64_t p = 0; p < s.pixels; ++p)
        for (std::int64_t c = g * size; c < (g + 1) * size; ++c) {
          double wanted = (value(b, p, c) - mean) / std::sqrt(variance + 1e-5) * weight.at(c) + bias.at(c);
          if (silu) wanted /= 1 + std::exp(-wanted);
          worst = std::max(worst, std::abs(read(y, type, (b * s.pixels + p) * s.channels + c) - wanted));
        }
    }
  return worst;
}

TEST_CASE("group normalisation with what stands around it") {
  for (const ChannelsLast* table : tables())
    for (const Type type : {Type::float32, Type::bfloat16})
      for (const Shape& s : {Shape{2, 300, 96, 32}, Shape{1, 5, 20, 4}, Shape{1, 128, 320, 32}})
        for (const bool whole : {false, true}) {
          CAPTURE(s.channels);
          // A mean far above the spread: what naive sums of squares lose.
          Numbers x(s.batch * s.pixels * s.channels, 3, whole ? 0 : 40), weight(s.channels, 4), bias(s.channels, 5), y = x;
          Numbers shift(s.batch * s.channels, 6);
          const GroupNormArgs args{.type = type,
                                   .x = y.as(type),
                                   .y = y.as(type),
                                   .weight = weight.as(type),
                                   .bias = bias.as(type),
                                   .added = whole ? shift.f.data() : nullptr,
                                   .batch = s.batch,
                                   .pixels = s.pixels,
                                   .channels = s.channels,
                                   .groups = s.groups,
                                   .eps = 1e-5F,
                                   .silu = whole};
          run(*table, args);
          const double worst = error_of(s, type, x, weight, bias, whole ? shift.f : std::vector<float>(), whole, y);
          CHECK(worst < (type == Type::bfloat16 ? 0.02 : 2e-5));
        }
}

TEST_CASE("the gate of GEGLU is the exact gelu") {
  const std::int64_t rows = 7, n = 37;
  for (const ChannelsLast* table : tables())
    for (const Type type : {Type::float32, Type::bfloat16}) {
      Numbers x(rows * 2 * n, 8), y(rows * n, 9);
      for (float& f : x.f) f = to_float(to_bf16(f * 6));
      std::transform(x.f.begin(), x.f.end(), x.h.begin(), to_bf16);
      table->gelu_gate(type, x.as(type), y.as(type), n, 0, rows);
      double worst = 0;
      for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t i = 0; i < n; ++i) {
          const double a = x.at(row * 2 * n + i), b = x.at(row * 2 * n + n + i);
          worst = std::max(worst, std::abs(read(y, type, row * n + i) - a * b * 0.5 * (1 + std::erf(b / std::sqrt(2.0)))));
        }
      CHECK(worst < (type == Type::bfloat16 ? 0.1 : 1e-5));
    }
}

}  // namespace
