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

}  // namespace
