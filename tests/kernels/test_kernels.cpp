// Every instruction set against sums in double precision, and row invariance bit for bit.
#include "nn/kernels/kernels.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/seed.h"
#include "kernels/bf16.h"

namespace {

using namespace atelier::nn::kernels;
using atelier::test::to_bf16;
using atelier::test::to_float;

std::vector<const Table*> tables() {
  std::vector<const Table*> found;
  for (const char* name : {"scalar", "avx2", "avx512", "avx512bf16"})
    if (const Table* t = find_table(name)) found.push_back(t);
  return found;
}

/// Random numbers in both types with the same values.
struct Numbers {
  std::vector<float> f;
  std::vector<bf16> h;

  Numbers(std::size_t n, std::uint64_t seed) : f(n), h(n) {
    atelier::base::Generator generator(seed);
    for (std::size_t i = 0; i < n; ++i) {
      h[i] = to_bf16(static_cast<float>(atelier::base::uniform(generator) * 2 - 1));
      f[i] = to_float(h[i]);
    }
  }
  const void* as(Type type) const { return type == Type::bfloat16 ? static_cast<const void*>(h.data()) : f.data(); }
};

/// A result buffer of either type, read as floats.
struct Result {
  Type type;
  std::vector<float> f;
  std::vector<bf16> h;

  Result(Type t, std::size_t n) : type(t), f(n), h(n) {}
  Result(Type t, const Numbers& numbers) : type(t), f(numbers.f), h(numbers.h) {}
  void* data() { return type == Type::bfloat16 ? static_cast<void*>(h.data()) : f.data(); }
  float operator[](std::size_t i) const { return type == Type::bfloat16 ? to_float(h[i]) : f[i]; }
  bool operator==(const Result& other) const { return f == other.f && h == other.h; }
};

double tolerance(Type type) { return type == Type::bfloat16 ? 0.01 : 1e-5; }

const Type types[] = {Type::float32, Type::bfloat16};

LinearArgs linear_args(Type type, const Numbers& x, const Numbers& w, const Numbers& bias, Result& y, std::int64_t rows,
                       std::int64_t in, std::int64_t out) {
  return {.type = type,
          .x = x.as(type),
          .w = w.as(type),
          .bias = bias.as(type),
          .y = y.data(),
          .y_f32 = type == Type::float32,
          .rows = rows,
          .in = in,
          .out = out};
}

}  // namespace

TEST_CASE("linear: every table, sizes that fill no vector, against double precision") {
  for (const Table* table : tables())
    for (const Type type : types)
      for (const std::int64_t in : {1, 31, 64, 100}) {
        CAPTURE(table->name);
        CAPTURE(in);
        const std::int64_t rows = 7, out = 9;
        const Numbers x(rows * in, 1), w(out * in, 2), bias(out, 3);
        Result y(type, rows * out);
        table->linear(linear_args(type, x, w, bias, y, rows, in, out), 0, out);
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t o = 0; o < out; ++o) {
            double sum = bias.f[o];
            for (std::int64_t i = 0; i < in; ++i) sum += static_cast<double>(x.f[r * in + i]) * w.f[o * in + i];
            CHECK(std::abs(y[r * out + o] - sum) < tolerance(type) * (1 + std::abs(sum)));
          }
      }
}

TEST_CASE("linear: a row does not depend on the rows beside it, nor on how columns are shared out") {
  const std::int64_t in = 133, out = 21, most = 13;
  const Numbers x(most * in, 4), w(out * in, 5), bias(out, 6);
  for (const Table* table : tables())
    for (const Type type : types) {
      Result all(type, most * out);
      table->linear(linear_args(type, x, w, bias, all, most, in, out), 0, out);
      for (std::int64_t rows = 1; rows <= most; ++rows) {
        Result some(type, rows * out);
        const auto args = linear_args(type, x, w, bias, some, rows, in, out);
        table->linear(args, 5, out);
        table->linear(args, 0, 5);
        for (std::int64_t i = 0; i < rows * out; ++i) CHECK(some[i] == all[i]);
      }
    }
}

TEST_CASE("rms_norm, geglu, softcap and rope: every table against double precision") {
  for (const Table* table : tables())
    for (const Type type : types)
      for (const std::int64_t n : {2, 20, 64, 250}) {
        CAPTURE(table->name);
        CAPTURE(n);
        const std::int64_t rows = 3;
        const Numbers x(rows * n, 7), w(n, 8), up(rows * n, 9);

        Result normed(type, rows * n);
        table->rms_norm(type, x.as(type), w.as(type), normed.data(), n, n, 1e-6F, 0, rows);
        Result gated(type, x);
        table->geglu(type, gated.data(), up.as(type), n, 0, rows);
        for (std::int64_t r = 0; r < rows; ++r) {
          double squares = 0;
          for (std::int64_t i = 0; i < n; ++i) squares += std::pow(x.f[r * n + i], 2);
          for (std::int64_t i = 0; i < n; ++i) {
            const double v = x.f[r * n + i];
            const double norm = v / std::sqrt(squares / static_cast<double>(n) + 1e-6) * (1 + w.f[i]);
            CHECK(std::abs(normed[r * n + i] - norm) < tolerance(type) * (1 + std::abs(norm)));
            const double gelu = 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
            CHECK(std::abs(gated[r * n + i] - gelu * up.f[r * n + i]) < tolerance(type));
          }
        }

        std::vector<float> capped = x.f;
        for (float& v : capped) v *= 100;
        const std::vector<float> before = capped;
        table->softcap(capped.data(), 30, 0, rows * n);
        for (std::size_t i = 0; i < capped.size(); ++i)
          CHECK(std::abs(capped[i] - 30 * std::tanh(before[i] / 30.0)) < 3e-5);

        const std::int64_t half = n / 2;
        const Numbers cosine(rows * half, 10), sine(rows * half, 11);
        Result turned(type, x);
        table->rope(type, turned.data(), cosine.f.data(), sine.f.data(), 1, n, 0, rows);
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t i = 0; i < half; ++i) {
            const double a = x.f[r * n + i], b = x.f[r * n + half + i], c = cosine.f[r * half + i],
                         s = sine.f[r * half + i];
            CHECK(std::abs(turned[r * n + i] - (a * c - b * s)) < tolerance(type) * 2);
            CHECK(std::abs(turned[r * n + half + i] - (b * c + a * s)) < tolerance(type) * 2);
          }
      }
}

TEST_CASE("attention: blocks and their merge against a plain softmax") {
  const std::int64_t heads = 4, kv_heads = 2, capacity = 700;
  for (const Table* table : tables())
    for (const Type type : types)
      for (const std::int64_t dim : {20, 64})
        for (const std::int64_t length : {1, 5, 256, 257, 700})
          for (const float cap : {0.0F, 5.0F}) {
            CAPTURE(table->name);
            CAPTURE(length);
            const Numbers q(heads * dim, 12), k(kv_heads * capacity * dim, 13), v(kv_heads * capacity * dim, 14);
            Result out(type, heads * dim);
            const AttentionArgs args{.type = type,
                                     .q = q.as(type),
                                     .k = k.as(type),
                                     .v = v.as(type),
                                     .out = out.data(),
                                     .heads = heads,
                                     .kv_heads = kv_heads,
                                     .head_dim = dim,
                                     .length = length,
                                     .capacity = capacity,
                                     .scale = 2,
                                     .softcap = cap};
            const std::int64_t group = heads / kv_heads,
                               blocks = (length + attention_block_keys - 1) / attention_block_keys;
            for (std::int64_t h = 0; h < kv_heads; ++h) {
              std::vector<float> m(blocks * group), l(blocks * group), acc(blocks * group * dim),
                  scores(attention_block_keys);
              for (std::int64_t b = 0; b < blocks; ++b)
                table->attention_block(args, h, b * attention_block_keys,
                                       std::min(length, (b + 1) * attention_block_keys), &m[b * group], &l[b * group],
                                       &acc[b * group * dim], scores.data());
              table->attention_merge(args, h, blocks, m.data(), l.data(), acc.data());
            }
            for (std::int64_t h = 0; h < heads; ++h) {
              const std::size_t base = (h / group) * capacity * dim;
              std::vector<double> weights(length);
              double total = 0;
              for (std::int64_t t = 0; t < length; ++t) {
                double score = 0;
                for (std::int64_t i = 0; i < dim; ++i)
                  score += static_cast<double>(q.f[h * dim + i]) * k.f[base + t * dim + i];
                score *= 2;
                if (cap > 0) score = cap * std::tanh(score / cap);
                total += weights[t] = std::exp(score);
              }
              for (std::int64_t i = 0; i < dim; ++i) {
                double sum = 0;
                for (std::int64_t t = 0; t < length; ++t) sum += weights[t] / total * v.f[base + t * dim + i];
                CHECK(std::abs(out[h * dim + i] - sum) < tolerance(type));
              }
            }
          }
}

TEST_CASE("bf16 results are rounded to the nearest, ties to even, and NaN stays NaN") {
  // The product 1 * w plus a bias is exact in f32 and lies between two bf16 numbers.
  struct Sum {
    float w, bias, rounded;
  };
  const float ulp = 0.0078125F;  // of bf16 at 1
  const Sum sums[] = {{1, ulp / 2, 1},    {1 + ulp, ulp / 2, 1 + 2 * ulp}, {1, ulp / 2 + ulp / 16, 1 + ulp},
                      {-1, -ulp / 2, -1}, {INFINITY, 0, INFINITY},         {NAN, 0, NAN}};
  for (const Table* table : tables())
    for (const Sum& sum : sums) {
      CAPTURE(table->name);
      CAPTURE(sum.w);
      const bf16 one = to_bf16(1), w = std::isnan(sum.w) ? bf16{0x7fc0} : to_bf16(sum.w), bias = to_bf16(sum.bias);
      bf16 y = 0;
      table->linear({.type = Type::bfloat16,
                     .x = &one,
                     .w = &w,
                     .bias = &bias,
                     .y = &y,
                     .y_f32 = false,
                     .rows = 1,
                     .in = 1,
                     .out = 1},
                    0, 1);
      if (std::isnan(sum.rounded))
        CHECK(std::isnan(to_float(y)));
      else
        CHECK(to_float(y) == sum.rounded);
    }
}

TEST_CASE("NaN goes through every kernel: damaged weights must show") {
  for (const Table* table : tables()) {
    CAPTURE(table->name);
    std::vector<float> x(40, 1.0F), up(40, 1.0F);
    x[3] = x[37] = NAN;
    table->softcap(x.data(), 30, 0, 40);
    CHECK(std::isnan(x[3]));
    CHECK(std::isnan(x[37]));
    CHECK(x[4] > 0);
    table->geglu(Type::float32, x.data(), up.data(), 40, 0, 1);
    CHECK(std::isnan(x[3]));
    CHECK(std::isnan(x[37]));
  }
}
