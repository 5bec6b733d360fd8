// What training adds to the layers: attention over documents, recomputed blocks, chunked cross-entropy; each beside the plain
// way to compute it.
#include <cmath>
#include <csignal>
#include <limits>
#include <stdexcept>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>

#include "base/stop.h"
#include "nn/checkpoint.h"
#include "nn/conv.h"
#include "nn/cross_entropy.h"
#include "nn/document_attention.h"
#include "nn/kept_products.h"
#include "nn/linear.h"
#include "nn/nf4.h"
#include "support/doctest_last.h"
#include "support/seeded.h"

namespace {

using namespace atelier;

double difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  const double d = (a.detach().to(at::kFloat) - b.detach().to(at::kFloat)).abs().max().item<double>();
  return std::isnan(d) ? INFINITY : d;
}

at::Tensor leaf(const std::string& name, at::IntArrayRef shape, double scale = 1) {
  return test::seeded(name, shape, scale).requires_grad_(true);
}

/// One document with all scores at once: q (n, heads, d).
at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const nn::AttentionSpec& spec) {
  const std::int64_t n = q.size(0), group = spec.heads / spec.kv_heads;
  const auto keys = k.transpose(0, 1).repeat_interleave(group, 0),
             values = v.transpose(0, 1).repeat_interleave(group, 0);
  auto scores = at::matmul(q.transpose(0, 1), keys.transpose(1, 2)) * spec.scale;  // (heads, n, n)
  if (spec.softcap > 0) scores = at::tanh(scores / spec.softcap) * spec.softcap;
  const auto i = at::arange(n).unsqueeze(1), j = at::arange(n).unsqueeze(0);
  auto hidden = j > i;
  if (spec.window > 0) hidden = hidden.logical_or(j <= i - spec.window);
  scores = scores.masked_fill(hidden, -std::numeric_limits<float>::infinity());
  return at::matmul(at::softmax(scores, -1), values).transpose(0, 1);
}

void seed_torch(std::uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU);
  generator.set_current_seed(seed);
}

void check_attention(const std::vector<std::int64_t>& lengths, const nn::AttentionSpec& spec, double tolerance) {
  std::int64_t n = 0;
  for (const auto length : lengths) n += length;
  std::vector<at::Tensor> mine, plain;
  for (auto* inputs : {&mine, &plain}) {
    inputs->push_back(leaf("q", {n, spec.heads, spec.head_dim}, 3));
    inputs->push_back(leaf("k", {n, spec.kv_heads, spec.head_dim}, 3));
    inputs->push_back(leaf("v", {n, spec.kv_heads, spec.head_dim}));
  }
  const auto upstream = test::seeded("dy", {n, spec.heads, spec.head_dim});
  const auto y = nn::attend_documents(mine[0], mine[1], mine[2], lengths, spec);
  (y * upstream).sum().backward();
  std::vector<at::Tensor> parts;
  std::int64_t begin = 0;
  for (const auto length : lengths) {
    const auto part = [&](const at::Tensor& x) { return x.narrow(0, begin, length); };
    parts.push_back(plain_attention(part(plain[0]), part(plain[1]), part(plain[2]), spec));
    begin += length;
  }
  const auto expected = at::cat(parts, 0);
  (expected * upstream).sum().backward();
  CHECK(difference(y, expected) < tolerance);
  for (int i = 0; i < 3; ++i) {
    CAPTURE(i);
    CHECK(difference(mine[i].grad(), plain[i].grad()) < tolerance);
  }
  const at::NoGradGuard no_grad;
  CHECK(at::equal(nn::attend_documents(mine[0], mine[1], mine[2], lengths, spec), y.detach()));
}

}  // namespace

TEST_CASE("attention over documents and its gradients are those of each document alone, all scores at once") {
  for (const double softcap : {0.0, 2.0})
    for (const std::int64_t window : {0, 5}) {
      CAPTURE(softcap);
      CAPTURE(window);
      check_attention({1, 12, 5, 30},
                      {.heads = 4, .kv_heads = 2, .head_dim = 6, .window = window, .scale = 0.4, .softcap = softcap},
                      1e-4);
    }
}

TEST_CASE("a stop is noticed within a pass, forwards and backwards") {
  const nn::AttentionSpec spec{.heads = 2, .kv_heads = 1, .head_dim = 4, .window = 0, .scale = 0.5, .softcap = 0};
  const auto q = leaf("q", {6, 2, 4}), k = leaf("k", {6, 1, 4}), v = leaf("v", {6, 1, 4});
  const auto y = nn::attend_documents(q, k, v, {2, 4}, spec).sum();
  base::request_stop(SIGTERM);
  CHECK_THROWS_AS(nn::attend_documents(q, k, v, {2, 4}, spec), base::Stopped);
  CHECK_THROWS_AS(y.backward(), base::Stopped);
  base::clear_stop();
  CHECK_FALSE(q.grad().defined());
  nn::attend_documents(q, k, v, {2, 4}, spec).sum().backward();
  CHECK(q.grad().defined());
}

TEST_CASE("a document that takes several blocks of queries") {
  for (const std::int64_t window : {0, 37})
    check_attention({1100}, {.heads = 4, .kv_heads = 1, .head_dim = 4, .window = window, .scale = 0.5, .softcap = 3},
                    5e-4);
}

TEST_CASE("a recomputed block has the gradients of the block, dropout and autocast included") {
  for (const bool autocast : {false, true}) {
    CAPTURE(autocast);
    std::vector<std::vector<at::Tensor>> gradients;
    std::vector<at::Tensor> values;
    for (const bool checkpointed : {false, true}) {
      const auto x = leaf("x", {9, 8}), w = leaf("w", {8, 8}), b = leaf("b", {8});
      const auto block = [&](const at::Tensor& input) {
        return at::dropout(at::tanh(at::linear(at::dropout(input, 0.3, true), w, b)), 0.5, true) + input;
      };
      seed_torch(5);
      at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
      at::autocast::set_autocast_enabled(at::kCPU, autocast);
      auto y = x * 1;
      for (int i = 0; i < 3; ++i) y = checkpointed ? nn::checkpoint(block, y, {w, b}) : block(y);
      at::autocast::clear_cache();
      at::autocast::set_autocast_enabled(at::kCPU, false);
      const auto after = at::dropout(at::ones({16}), 0.5, true);  // the generator stands where it would
      y.to(at::kFloat).square().sum().backward();
      values.push_back(at::cat({y.detach().to(at::kFloat).flatten(), after}));
      gradients.push_back({x.grad(), w.grad(), b.grad()});
    }
    CHECK(at::equal(values[0], values[1]));
    for (int i = 0; i < 3; ++i) {
      // Under autocast the plain blocks share one cast of each weight, in whose format their gradients are added up.
      const double scale = gradients[0][i].abs().max().item<double>();
      CHECK(difference(gradients[0][i], gradients[1][i]) <= (autocast ? 0.03 * scale : 0));
    }
  }
}

TEST_CASE("kept products: backward takes them, changes no bit, and never computes one again") {
  const auto nf4 = nn::Nf4Weight::quantise(test::seeded("quantised", {8, 8}));
  for (const bool autocast : {false, true}) {
    CAPTURE(autocast);
    std::vector<std::vector<at::Tensor>> gradients;
    int computed = 0;
    for (const bool keep : {false, true}) {
      const auto x = leaf("x", {9, 8}), a = leaf("a", {2, 8}), b = leaf("b", {8, 2});
      const auto frozen = test::seeded("w", {8, 8});
      computed = 0;
      const auto block = [&](const at::Tensor& input) {
        const auto first = nn::linear(input, frozen, {}) + nn::linear(nn::linear(input, a, {}), b, {});
        const auto counted = [&] {
          ++computed;
          return at::linear(first, frozen);
        };
        auto* const kept = nn::KeptProducts::current();
        CHECK((kept != nullptr) == keep);
        const auto second = kept != nullptr
                                ? kept->product(first, counted, [&](const at::Tensor& dy) { return at::matmul(dy, frozen.to(dy.scalar_type())); })
                                : counted();
        return at::tanh(nn::linear(at::tanh(second), nf4, {}, /*f32_result=*/true)) + input;
      };
      at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
      at::autocast::set_autocast_enabled(at::kCPU, autocast);
      auto y = x * 1;
      for (int i = 0; i < 3; ++i) y = nn::checkpoint(block, y, {a, b}, keep);
      at::autocast::clear_cache();
      at::autocast::set_autocast_enabled(at::kCPU, false);
      y.to(at::kFloat).square().sum().backward();
      gradients.push_back({x.grad(), a.grad(), b.grad()});
      CHECK(computed == (keep ? 3 : 6));
      CHECK(nn::KeptProducts::current() == nullptr);
    }
    for (int i = 0; i < 3; ++i) CHECK(at::equal(gradients[0][i], gradients[1][i]));
  }
}

TEST_CASE("attention and its gradients are those of all scores at once, in any layout, with one bit pattern on any number of threads") {
  const std::int64_t threads = at::get_num_threads();
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    for (const std::int64_t dim : {40, 5}) {  // ours, and LibTorch's kernel
      CAPTURE(dtype);
      CAPTURE(dim);
      const std::int64_t heads = 3, width = heads * dim;
      std::vector<at::Tensor> found, plain;
      for (const bool mine : {true, false}) {
        const auto joint = test::seeded("joint", {2, 80, 3 * width}, 2).to(dtype).requires_grad_(true);
        auto& gradients = mine ? found : plain;
        const auto part = [&](std::int64_t i) { return joint.narrow(2, i * width, width); };
        at::Tensor y;
        if (mine) {
          y = nn::multi_head_attention(part(0), part(1).narrow(1, 3, 70), part(2).narrow(1, 0, 70), heads);
        } else {
          const auto split = [&](const at::Tensor& x) { return x.to(at::kDouble).view({2, x.size(1), heads, dim}).transpose(1, 2); };
          const auto scores = at::matmul(split(part(0)), split(part(1).narrow(1, 3, 70)).transpose(2, 3)) / std::sqrt(static_cast<double>(dim));
          y = at::matmul(at::softmax(scores, -1), split(part(2).narrow(1, 0, 70))).transpose(1, 2).reshape({2, 80, width});
        }
        // An upstream gradient that is a view, of another order.
        (y.to(at::kFloat).transpose(0, 1) * test::seeded("dy", {80, 2, width})).sum().backward();
        gradients = {y.detach(), joint.grad()};
        if (!mine) continue;
        for (const int n : {1, 2, 5}) {
          at::set_num_threads(n);
          const auto again = joint.detach().requires_grad_(true);
          const auto of = [&](std::int64_t i) { return again.narrow(2, i * width, width); };
          const auto z = nn::multi_head_attention(of(0), of(1).narrow(1, 3, 70), of(2).narrow(1, 0, 70), heads);
          (z.to(at::kFloat).transpose(0, 1) * test::seeded("dy", {80, 2, width})).sum().backward();
          CHECK(at::equal(again.grad(), joint.grad()));
        }
        at::set_num_threads(static_cast<int>(threads));
      }
      for (int i = 0; i < 2; ++i) {
        const double most = plain[i].to(at::kFloat).abs().max().item<double>();
        CHECK(difference(found[i], plain[i]) < (dtype == at::kFloat ? 1e-5 : 0.02) * most);
      }
    }
}

TEST_CASE("kept attention: backward takes it, and changes no bit") {
  for (const bool causal : {false, true})
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      CAPTURE(causal);
      CAPTURE(dtype);
      std::vector<std::vector<at::Tensor>> gradients;
      for (const bool keep : {false, true}) {
        const auto x = test::seeded("x", {2, 9, 16}).to(dtype).requires_grad_(true), w = leaf("w", {16, 16}, 0.5);
        const auto block = [&](const at::Tensor& input) {
          const auto q = nn::linear(input, w.to(dtype), {}), k = input * 2;
          return nn::multi_head_attention(q, k, at::tanh(input), /*heads=*/4, causal) + input;
        };
        auto y = nn::checkpoint(block, x, {w}, keep);
        y = nn::checkpoint(block, y, {w}, keep);
        y.to(at::kFloat).square().sum().backward();
        gradients.push_back({y.detach(), x.grad(), w.grad()});
        CHECK(nn::KeptProducts::current() == nullptr);
      }
      for (int i = 0; i < 3; ++i) CHECK(at::equal(gradients[0][i], gradients[1][i]));
      CHECK(gradients[0][2].abs().max().item<double>() > 0);
    }
  // What needs no gradient has none, and what was kept is enough.
  nn::KeptProducts kept;
  const auto q = test::seeded("q", {1, 5, 16}), k = test::seeded("k", {1, 7, 16}), v = test::seeded("v", {1, 7, 16});
  at::Tensor first;
  {
    const nn::KeptProducts::Scope scope(kept, nn::KeptProducts::Mode::record);
    first = kept.attention(q, k, v, /*heads=*/2, false);
  }
  const nn::KeptProducts::Scope scope(kept, nn::KeptProducts::Mode::replay);
  CHECK(at::equal(kept.attention(q * 0, k, v, 2, false), first));
  CHECK_THROWS_AS(kept.attention(q, k, v, 2, false), std::logic_error);
}

TEST_CASE("a trained weight's products are computed again, and a frozen one's are left alone outside of a block") {
  const auto x = leaf("x", {4, 3}), w = leaf("w", {3, 3});
  int runs = 0;
  const auto block = [&](const at::Tensor& input) {
    ++runs;
    return nn::linear(input, w, {});
  };
  nn::checkpoint(block, x, {w}, /*keep=*/true).square().sum().backward();
  const auto gradient = w.grad().clone();
  w.mutable_grad().reset();
  nn::linear(x, w, {}).square().sum().backward();
  CHECK(runs == 2);
  CHECK(at::equal(gradient, w.grad()));
}

TEST_CASE("a recomputed block whose input needs no gradient still trains its parameters") {
  const auto x = test::seeded("x", {4, 3});
  const auto w = leaf("w", {3, 3}), other = leaf("w", {3, 3});
  nn::checkpoint([&](const at::Tensor& input) { return at::linear(input, w); }, x, {w}).square().sum().backward();
  at::linear(x, other).square().sum().backward();
  CHECK(at::equal(w.grad(), other.grad()));
}

TEST_CASE("chunked cross-entropy and its gradients are the plain ones, with soft cap and a trained head") {
  const auto targets = at::tensor({3, 0, 18, 3, 7, 11, 2}, at::kLong);
  for (const double softcap : {0.0, 1.5})
    for (const bool trained : {false, true}) {
      const auto x = leaf("x", {7, 6}), w = test::seeded("w", {19, 6}, 2).requires_grad_(trained);
      auto logits = at::linear(x, w);
      if (softcap > 0) logits = at::tanh(logits / softcap) * softcap;
      const auto expected = at::cross_entropy_loss(logits, targets, {}, /*reduction=sum*/ 2);
      (expected * 0.3).backward();
      for (const std::int64_t rows : {1, 3, 7, 100}) {
        CAPTURE(softcap);
        CAPTURE(trained);
        CAPTURE(rows);
        const auto own_x = leaf("x", {7, 6}), own_w = test::seeded("w", {19, 6}, 2).requires_grad_(trained);
        const nn::Head head{[&](const at::Tensor& h) { return at::linear(h, own_w); }, {own_w}, softcap};
        const auto loss = nn::cross_entropy_sum(own_x, targets, head, rows);
        CHECK((loss.scalar_type() == at::kFloat));
        CHECK(difference(loss, expected) < 1e-5);
        (loss * 0.3).backward();
        CHECK(difference(own_x.grad(), x.grad()) < 1e-6);
        if (trained) CHECK(difference(own_w.grad(), w.grad()) < 1e-6);
        const at::NoGradGuard no_grad;
        CHECK(difference(nn::cross_entropy_sum(own_x, targets, head, rows), expected) < 1e-5);
      }
    }
}

TEST_CASE("the rows of a chunk keep its logits at 64 MiB") {
  CHECK(nn::cross_entropy_rows(256000) == 65);
  CHECK(nn::cross_entropy_rows(std::int64_t{1} << 30) == 1);
  CHECK(nn::cross_entropy_rows(4096) == 4096);
}
