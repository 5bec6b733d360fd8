// Flash attention against softmax in double precision, and its promise that rows do not depend on one another.
#include "nn/kernels/flash_attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/seed.h"
#include "kernels/bf16.h"

namespace {

using namespace atelier::nn::kernels;
using atelier::test::to_bf16;
using atelier::test::to_float;

struct Case {
  std::int64_t batch, heads, queries, keys, dim;
  bool causal = false;
  std::int64_t past = 0, window = 0;
  float softcap = 0;
  std::int64_t group = 1;
};

/// Random q, k and v whose rows stand in one matrix of (tokens, 3 heads dim), as a joint projection leaves them.
struct Problem {
  Case c;
  Type type;
  std::int64_t tokens, row;
  std::vector<float> f;
  std::vector<bf16> h;

  Problem(Case size, Type t, std::uint64_t seed)
      : c(size), type(t), tokens(std::max(c.queries, c.keys)), row(3 * c.heads * c.dim), f(static_cast<std::size_t>(c.batch * tokens * row)),
        h(f.size()) {
    atelier::base::Generator generator(seed);
    for (std::size_t i = 0; i < f.size(); ++i) {
      h[i] = to_bf16(static_cast<float>(atelier::base::uniform(generator) * 6 - 3));
      f[i] = to_float(h[i]);
    }
  }

  const void* at(std::int64_t i) const { return type == Type::bfloat16 ? static_cast<const void*>(h.data() + i) : f.data() + i; }

  FlashArgs args(void* out) const {
    const auto side = [&](std::int64_t part) { return FlashArgs::Side{at(part * c.heads * c.dim), tokens * row, row, c.dim}; };
    return {.type = type,
            .q = side(0),
            .k = side(1),
            .v = side(2),
            .out = out,
            .batch = c.batch,
            .heads = c.heads,
            .queries = c.queries,
            .keys = c.keys,
            .head_dim = c.dim,
            .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.dim))),
            .causal = c.causal,
            .past = c.past,
            .window = c.window,
            .softcap = c.softcap,
            .group = c.group};
  }

  double value(std::int64_t part, std::int64_t b, std::int64_t token, std::int64_t head, std::int64_t d) const {
    return f[static_cast<std::size_t>(((b * tokens + token) * 3 + part) * c.heads * c.dim + head * c.dim + d)];
  }

  std::vector<double> expected(std::int64_t b, std::int64_t head, std::int64_t query) const {
    const std::int64_t end = c.causal ? c.past + query + 1 : c.keys, first = c.window > 0 ? std::max<std::int64_t>(0, end - c.window) : 0;
    const std::int64_t keys = end - first;
    std::vector<double> scores(static_cast<std::size_t>(keys)), sums(static_cast<std::size_t>(c.dim));
    for (std::int64_t k = 0; k < keys; ++k) {
      double s = 0;
      for (std::int64_t d = 0; d < c.dim; ++d) s += value(0, b, query, head, d) * value(1, b, first + k, head / c.group, d);
      s /= std::sqrt(static_cast<double>(c.dim));
      scores[static_cast<std::size_t>(k)] = c.softcap > 0 ? c.softcap * std::tanh(s / c.softcap) : s;
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (std::int64_t k = 0; k < keys; ++k) {
      const double e = std::exp(scores[static_cast<std::size_t>(k)] - top);
      total += e;
      for (std::int64_t d = 0; d < c.dim; ++d) sums[static_cast<std::size_t>(d)] += e * value(2, b, first + k, head / c.group, d);
    }
    for (double& sum : sums) sum /= total;
    return sums;
  }
};

/// (batch, queries, heads dim), computed in parts of `step` queries.
std::vector<float> run(const FlashKernels& kernels, const Problem& p, std::int64_t step) {
  const std::size_t n = static_cast<std::size_t>(p.c.batch * p.c.queries * p.c.heads * p.c.dim);
  std::vector<float> f(n);
  std::vector<bf16> h(n);
  const FlashArgs args = p.args(p.type == Type::bfloat16 ? static_cast<void*>(h.data()) : f.data());
  std::vector<float> packed(static_cast<std::size_t>(kernels.packed_size(args))), scratch(static_cast<std::size_t>(kernels.scratch_size(args)));
  for (std::int64_t b = 0; b < p.c.batch; ++b)
    for (std::int64_t head = 0; head < p.c.heads; ++head) {
      if (head % p.c.group == 0) kernels.pack(args, b, head / p.c.group, packed.data());
      for (std::int64_t at = 0; at < p.c.queries; at += step)
        kernels.attend(args, b, head, packed.data(), at, std::min(p.c.queries, at + step), scratch.data());
    }
  if (p.type == Type::bfloat16) std::transform(h.begin(), h.end(), f.begin(), to_float);
  return f;
}

struct Kind {
  const char* table;
  Type type;
  double tolerance;
};
const Kind kinds[] = {{"avx512", Type::float32, 1e-5}, {"avx512bf16", Type::float32, 1e-5}, {"avx512bf16", Type::bfloat16, 0.02}};

TEST_CASE("flash attention is softmax attention") {
  for (const Kind& kind : kinds) {
    const FlashKernels* kernels = find_flash_kernels(kind.table, kind.type);
    if (kernels == nullptr) continue;
    for (const Case& c : {Case{2, 3, 70, 70, 40}, Case{1, 2, 5, 77, 64}, Case{1, 1, 49, 600, 80}, Case{1, 1, 100, 1, 160}, Case{2, 1, 48, 257, 2},
                          Case{1, 1, 50, 90, 512}, Case{1, 2, 77, 77, 64, true}, Case{1, 1, 400, 400, 40, true},
                          Case{1, 1, 60, 700, 32, true, 640}, Case{1, 1, 400, 400, 16, true, 0, 30}, Case{1, 1, 100, 900, 16, true, 800, 300},
                          Case{1, 1, 100, 100, 16, true, 0, 1}, Case{1, 2, 50, 77, 64, false, 0, 0, 3.0F},
                          Case{2, 6, 300, 320, 8, true, 20, 260, 2.0F, 3}}) {
      CAPTURE(kind.table);
      CAPTURE(c.dim);
      const Problem problem(c, kind.type, 5);
      const auto found = run(*kernels, problem, c.queries);
      double worst = 0;
      for (std::int64_t b = 0; b < c.batch; ++b)
        for (std::int64_t q = 0; q < c.queries; ++q)
          for (std::int64_t head = 0; head < c.heads; ++head) {
            const auto wanted = problem.expected(b, head, q);
            for (std::int64_t d = 0; d < c.dim; ++d) {
              const auto at = static_cast<std::size_t>(((b * c.queries + q) * c.heads + head) * c.dim + d);
              worst = std::max(worst, std::abs(found[at] - wanted[static_cast<std::size_t>(d)]));
            }
          }
      CHECK(worst < kind.tolerance);
    }
  }
}

TEST_CASE("a query's attention does not depend on the queries beside it") {
  for (const Kind& kind : kinds) {
    const FlashKernels* kernels = find_flash_kernels(kind.table, kind.type);
    if (kernels == nullptr) continue;
    const Problem whole({1, 2, 150, 300, 40}, kind.type, 7);
    Problem fewer = whole;  // the same memory, the first queries only
    fewer.c.queries = 61;
    const auto all = run(*kernels, whole, 150), parts = run(*kernels, whole, flash_queries), first = run(*kernels, fewer, 61);
    CHECK(all == parts);
    CHECK(std::equal(first.begin(), first.end(), all.begin()));
  }
}

TEST_CASE("scores far apart, and what is no number") {
  for (const Kind& kind : kinds) {
    const FlashKernels* kernels = find_flash_kernels(kind.table, kind.type);
    if (kernels == nullptr) continue;
    Problem problem({1, 1, 3, 300, 2}, kind.type, 9);
    const auto set = [&](std::int64_t part, std::int64_t token, float x) {
      for (std::int64_t d = 0; d < 2; ++d) {
        const auto at = static_cast<std::size_t>((token * 3 + part) * 2 + d);
        problem.f[at] = x;
        problem.h[at] = to_bf16(x);
      }
    };
    for (std::int64_t token = 0; token < 300; ++token) set(1, token, token == 290 ? 100.0F : -100.0F);
    set(0, 0, 100.0F);    // one key takes all
    set(0, 1, std::nanf(""));
    set(2, 290, 0.75F);
    const auto found = run(*kernels, problem, 3);
    CHECK(found[0] == 0.75F);
    CHECK(std::isnan(found[2]));
    CHECK(std::isfinite(found[4]));
  }
}

/// dq, dk and dv, each (batch, tokens, heads, dim), in double precision, for dy = `dy` (batch, queries, heads, dim).
struct Gradients {
  std::vector<double> q, k, v;

  Gradients(const Problem& p, const std::vector<float>& dy) {
    const Case& c = p.c;
    const auto size = [&](std::int64_t tokens) { return static_cast<std::size_t>(c.batch * tokens * c.heads * c.dim); };
    q.resize(size(c.queries));
    k.resize(size(c.keys));
    v.resize(size(c.keys));
    for (std::int64_t b = 0; b < c.batch; ++b)
      for (std::int64_t head = 0; head < c.heads; ++head)
        for (std::int64_t query = 0; query < c.queries; ++query) add(p, dy, b, head, query);
  }

  void add(const Problem& p, const std::vector<float>& dy, std::int64_t b, std::int64_t head, std::int64_t query) {
    const Case& c = p.c;
    const std::int64_t keys = c.causal ? query + 1 : c.keys;
    const double scale = 1 / std::sqrt(static_cast<double>(c.dim));
    const auto at = [&](std::int64_t tokens, std::int64_t token, std::int64_t d) {
      return static_cast<std::size_t>(((b * tokens + token) * c.heads + head) * c.dim + d);
    };
    std::vector<double> weights(static_cast<std::size_t>(keys)), slopes(weights.size());
    double total = 0, mean = 0;
    for (std::size_t j = 0; j < weights.size(); ++j) {
      double s = 0;
      for (std::int64_t d = 0; d < c.dim; ++d) s += p.value(0, b, query, head, d) * p.value(1, b, static_cast<std::int64_t>(j), head, d);
      weights[j] = std::exp(s * scale);
      total += weights[j];
    }
    for (std::size_t j = 0; j < weights.size(); ++j) {
      weights[j] /= total;
      for (std::int64_t d = 0; d < c.dim; ++d) slopes[j] += static_cast<double>(dy[at(c.queries, query, d)]) * p.value(2, b, static_cast<std::int64_t>(j), head, d);
      mean += weights[j] * slopes[j];
    }
    for (std::size_t j = 0; j < weights.size(); ++j) {
      const double slope = weights[j] * (slopes[j] - mean) * scale;
      const auto key = static_cast<std::int64_t>(j);
      for (std::int64_t d = 0; d < c.dim; ++d) {
        q[at(c.queries, query, d)] += slope * p.value(1, b, key, head, d);
        k[at(c.keys, key, d)] += slope * p.value(0, b, query, head, d);
        v[at(c.keys, key, d)] += weights[j] * static_cast<double>(dy[at(c.queries, query, d)]);
      }
    }
  }
};

/// The greatest error, relative to the greatest number.
double error_of(const std::vector<float>& found, const std::vector<double>& wanted) {
  REQUIRE(found.size() == wanted.size());
  double worst = 0, most = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    worst = std::isfinite(found[i]) ? std::max(worst, std::abs(found[i] - wanted[i])) : INFINITY;
    most = std::max(most, std::abs(wanted[i]));
  }
  return worst / most;
}

/// Memory of one type, and its numbers as f32.
struct Numbers {
  std::vector<float> f;
  std::vector<bf16> h;

  Numbers(Type type, std::size_t n) : f(type == Type::float32 ? n : 0), h(type == Type::float32 ? 0 : n) {}
  void* data() { return h.empty() ? static_cast<void*>(f.data()) : h.data(); }
  std::vector<float> values() const {
    std::vector<float> all = f;
    for (const bf16 x : h) all.push_back(to_float(x));
    return all;
  }
};

TEST_CASE("flash attention's gradients are softmax attention's") {
  for (const Kind& kind : kinds) {
    const FlashKernels* kernels = find_flash_kernels(kind.table, kind.type);
    if (kernels == nullptr) continue;
    for (const Case& c : {Case{2, 3, 70, 70, 40}, Case{1, 2, 5, 77, 64}, Case{1, 1, 129, 600, 80}, Case{1, 1, 101, 3, 160}, Case{2, 1, 64, 257, 2},
                          Case{1, 1, 50, 90, 512}, Case{1, 2, 77, 77, 64, true}, Case{1, 1, 399, 399, 40, true}}) {
      CAPTURE(kind.table);
      CAPTURE(c.dim);
      CAPTURE(c.causal);
      const Problem problem(c, kind.type, 5), upstream({c.batch, c.heads, c.queries, c.queries, c.dim}, kind.type, 6);
      const std::size_t row = static_cast<std::size_t>(c.batch * c.heads * c.dim);
      const std::size_t of_queries = row * static_cast<std::size_t>(c.queries), of_keys = row * static_cast<std::size_t>(c.keys);
      Numbers y(kind.type, of_queries), dq(kind.type, of_queries), dk(kind.type, of_keys), dv(kind.type, of_keys);
      std::vector<float> sums(static_cast<std::size_t>(c.batch * c.heads * c.queries));
      FlashGradientArgs args{problem.args(y.data()), upstream.args(nullptr).q, dq.data(), dk.data(), dv.data()};
      args.forward.sums = sums.data();
      std::vector<float> packed(static_cast<std::size_t>(kernels->packed_size(args.forward)));
      std::vector<float> scratch(static_cast<std::size_t>(kernels->scratch_size(args.forward)));
      std::vector<float> more(static_cast<std::size_t>(kernels->gradient_scratch_size(args)), NAN);
      for (std::int64_t b = 0; b < c.batch; ++b)
        for (std::int64_t head = 0; head < c.heads; ++head) {
          kernels->pack(args.forward, b, head, packed.data());
          kernels->attend(args.forward, b, head, packed.data(), 0, c.queries, scratch.data());
          kernels->gradients(args, b, head, more.data());
        }
      std::vector<float> dy;
      for (std::int64_t b = 0; b < c.batch; ++b)
        for (std::int64_t query = 0; query < c.queries; ++query)
          for (std::int64_t i = 0; i < c.heads * c.dim; ++i) dy.push_back(static_cast<float>(upstream.value(0, b, query, 0, i)));
      const Gradients wanted(problem, dy);
      CHECK(error_of(dq.values(), wanted.q) < kind.tolerance);
      CHECK(error_of(dk.values(), wanted.k) < kind.tolerance);
      CHECK(error_of(dv.values(), wanted.v) < kind.tolerance);
    }
  }
}

}  // namespace
