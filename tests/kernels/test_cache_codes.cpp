// Keys and values in 8 bits: every instruction set against the reference in double precision.
#include "nn/kernels/cache_codes.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/seed.h"

namespace {

using namespace atelier::nn::kernels;

std::vector<const CodeTable*> tables() {
  std::vector<const CodeTable*> found;
  for (const char* name : {"scalar", "avx2", "avx512", "avx512bf16"})
    if (const CodeTable* t = find_code_table(name)) found.push_back(t);
  return found;
}

std::vector<float> numbers(std::int64_t n, std::uint64_t seed, double most = 1) {
  atelier::base::Generator generator(seed);
  std::vector<float> all(static_cast<std::size_t>(n));
  for (float& x : all) x = static_cast<float>((atelier::base::uniform(generator) * 2 - 1) * most);
  return all;
}

/// Keys or values of some heads and positions.
struct Coded {
  std::vector<std::int8_t> codes;
  std::vector<float> scales;

  Coded(const std::vector<float>& x, std::int64_t dim)
      : codes(x.size()), scales(x.size() / static_cast<std::size_t>(dim)) {
    for (std::size_t row = 0; row < scales.size(); ++row)
      scales[row] = code_table().encode(Type::float32, &x[row * static_cast<std::size_t>(dim)], dim,
                                        &codes[row * static_cast<std::size_t>(dim)]);
  }
  double at(std::int64_t i, std::int64_t dim) const { return codes[i] * static_cast<double>(scales[i / dim]); }
};

}  // namespace

TEST_CASE("codes are at most half a scale off; the greatest number has the code 127") {
  for (const CodeTable* t : tables())
    for (const std::int64_t n : {1, 7, 64, 256}) {
      const auto x = numbers(n, static_cast<std::uint64_t>(n), 3);
      std::vector<std::int8_t> codes(x.size());
      const float scale = t->encode(Type::float32, x.data(), n, codes.data());
      int most = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        CHECK(std::fabs(codes[i] * scale - x[i]) <= 0.5001F * scale);
        most = std::max(most, std::abs(codes[i]));
      }
      CHECK(most == 127);
    }
  std::int8_t codes[2];
  const float zeros[2] = {0, 0}, bad[2] = {1, std::numeric_limits<float>::quiet_NaN()};
  CHECK(code_table().encode(Type::float32, zeros, 2, codes) == 0);
  CHECK(std::isnan(code_table().encode(Type::float32, bad, 2, codes)));
}

TEST_CASE("attention over codes is attention over the numbers that they stand for") {
  struct Shape {
    std::int64_t heads, kv_heads, dim, length, capacity;
    float softcap;
  };
  for (const Shape s : {Shape{4, 2, 32, 70, 70, 0},
                        {8, 4, 256, 256, 300, 50},
                        {3, 1, 20, 5, 9, 0},
                        {2, 2, 18, 200, 256, 30},
                        {1, 1, 2, 1, 1, 0}}) {
    CAPTURE(s.dim);
    const std::int64_t group = s.heads / s.kv_heads;
    const auto q = numbers(s.heads * s.dim, 1, 2);
    const Coded k(numbers(s.kv_heads * s.capacity * s.dim, 2), s.dim),
        v(numbers(s.kv_heads * s.capacity * s.dim, 3), s.dim);
    for (const CodeTable* t : tables()) {
      CAPTURE(t->name);
      const AttentionArgs args{.type = Type::float32,
                               .q = q.data(),
                               .k = k.codes.data(),
                               .v = v.codes.data(),
                               .out = nullptr,
                               .heads = s.heads,
                               .kv_heads = s.kv_heads,
                               .head_dim = s.dim,
                               .length = s.length,
                               .capacity = s.capacity,
                               .scale = 0.3F,
                               .softcap = s.softcap};
      for (std::int64_t head = 0; head < s.kv_heads; ++head) {
        std::vector<float> m(group), l(group), acc(group * s.dim);
        t->attention_block(args, k.scales.data(), v.scales.data(), head, 0, s.length, m.data(), l.data(), acc.data());
        for (std::int64_t g = 0; g < group; ++g) {
          std::vector<double> scores;
          for (std::int64_t p = 0; p < s.length; ++p) {
            double sum = 0;
            for (std::int64_t i = 0; i < s.dim; ++i)
              sum += q[(head * group + g) * s.dim + i] * k.at((head * s.capacity + p) * s.dim + i, s.dim);
            sum *= 0.3F;
            scores.push_back(s.softcap > 0 ? s.softcap * std::tanh(sum / s.softcap) : sum);
          }
          const double top = *std::max_element(scores.begin(), scores.end());
          double total = 0;
          for (const double score : scores) total += std::exp(score - top);
          CHECK(m[g] == doctest::Approx(top).epsilon(1e-4));
          CHECK(l[g] == doctest::Approx(total).epsilon(1e-4));
          for (std::int64_t i = 0; i < s.dim; ++i) {
            double sum = 0;
            for (std::int64_t p = 0; p < s.length; ++p)
              sum += std::exp(scores[p] - top) * v.at((head * s.capacity + p) * s.dim + i, s.dim);
            CHECK(std::fabs(acc[g * s.dim + i] - sum) < 1e-4 * total);
          }
        }
      }
    }
  }
}
