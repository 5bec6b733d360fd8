// Fréchet and kernel distances against pytorch-fid and torch-fidelity; intervals; goldens from scripts/fixtures/metrics.py.
#include <cmath>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "metrics/bootstrap.h"
#include "metrics/goldens.h"
#include "metrics/numpy_random.h"
#include "metrics/statistics.h"
#include "support/doctest_last.h"
#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::metrics;
using test::close;
using test::formula_features;

struct Sides {
  at::Tensor real, fake;
};

Sides full() { return {formula_features("real", 300, 32), formula_features("fake", 250, 32, 1.1, 0.1)}; }
/// Fewer features than dimensions: singular covariances.
Sides low() { return {formula_features("low.real", 40, 64), formula_features("low.fake", 30, 64, 0.9, 0.2)}; }

double distance(const Sides& sides) {
  return frechet_distance(feature_statistics(sides.real), feature_statistics(sides.fake));
}

Frechet whole(const Sides& sides) {
  return frechet(sides.real, feature_statistics(sides.real), sides.fake, feature_statistics(sides.fake));
}

}  // namespace

TEST_CASE("the Fréchet distance equals pytorch-fid's and torch-fidelity's within 1e-5, of singular covariances too") {
  const auto& goldens = test::metrics_golden("formulas").at("frechet");
  for (const auto& [name, sides] : {std::pair{"full", full()}, std::pair{"low", low()}}) {
    CAPTURE(name);
    for (const char* package : {"pytorch_fid", "torch_fidelity"}) {
      const auto expected = goldens.at(name).at(package).get<double>();
      CHECK(close(distance(sides), expected, 1e-5));
      CHECK(close(whole(sides).distance, expected, 1e-5));
    }
  }
  CHECK(std::abs(distance({full().real, full().real})) < 1e-6);
}

TEST_CASE("few features are measured in the space that they span, with the same result") {
  const Sides sides{formula_features("a", 5, 64), formula_features("b", 4, 64, 1, 0.5)};
  CHECK(close(whole(sides).distance, distance(sides), 1e-6));
  CHECK(whole(sides).real_influence.size(0) == 5);
  CHECK(whole(sides).fake_influence.size(0) == 4);
}

TEST_CASE("known distances: shifted and scaled normal distributions") {
  const auto identity = at::eye(3, at::kDouble);
  const FeatureStatistics a{at::zeros({3}, at::kDouble), identity, 10},
      b{at::full({3}, 2.0, at::kDouble), 4 * identity, 10};
  CHECK(frechet_distance(a, b) == doctest::Approx(3 * 4 + 3 * (1 + 4 - 2 * 2)));
}

TEST_CASE("the influence of a feature is what a little more of its weight changes") {
  const Sides sides = full();
  const Frechet result = whole(sides);
  CHECK(std::abs(result.real_influence.mean().item<double>()) < 1e-9);
  CHECK(std::abs(result.fake_influence.mean().item<double>()) < 1e-9);
  for (const bool real : {true, false}) {
    CAPTURE(real);
    const at::Tensor& rows = real ? sides.real : sides.fake;
    const at::Tensor& influence = real ? result.real_influence : result.fake_influence;
    const FeatureStatistics own = feature_statistics(rows), other = feature_statistics(real ? sides.fake : sides.real);
    const auto moved = [&](std::int64_t i, double weight) {
      const at::Tensor away = rows.narrow(0, i, 1).to(at::kDouble) - own.mean;  // (1, D)
      return frechet_distance({own.mean + weight * away.squeeze(0),
                               own.covariance + weight * (at::matmul(away.t(), away) - own.covariance), own.count},
                              other);
    };
    const auto slope = [&](std::int64_t i) { return (moved(i, 1e-4) - moved(i, -1e-4)) / 2e-4; };
    const auto most = influence.argmax().item<std::int64_t>(), least = influence.argmin().item<std::int64_t>();
    // The influences are without their average, so only what lies between two of them counts.
    for (const std::int64_t i : {most, std::int64_t{0}, std::int64_t{17}}) {
      const double between = (influence[i] - influence[least]).item<double>();
      CHECK(close(slope(i) - slope(least), between, 1e-3));
    }
  }
}

TEST_CASE("numpy's draws") {
  // numpy.random.RandomState(2020).choice(10, 10, replace=False), then choice(7, 3, replace=False)
  NumpyRandomState random(2020);
  CHECK(random.choice(10, 10) == std::vector<std::int64_t>{2, 4, 9, 1, 5, 7, 6, 3, 8, 0});
  CHECK(random.choice(7, 3) == std::vector<std::int64_t>{4, 3, 1});
}

TEST_CASE("KID equals torch-fidelity's within 1e-6") {
  const auto& goldens = test::metrics_golden("formulas").at("kid");
  for (std::size_t i = 0; i < goldens.size(); ++i) {
    CAPTURE(i);
    const Sides sides = i < 2 ? full() : low();
    const KidOptions options{goldens[i].at("subsets").get<std::int64_t>(), goldens[i].at("size").get<std::int64_t>(),
                             goldens[i].at("seed").get<std::uint32_t>()};
    const Kid kid = kernel_distance(sides.real, sides.fake, options);
    CHECK(close(kid.mean, goldens[i].at("mean").get<double>(), 1e-6));
    CHECK(close(kid.deviation, goldens[i].at("deviation").get<double>(), 1e-6));
  }
}

TEST_CASE("KID of many features, subset by subset, is that of one pass over all pairs") {
  const auto many = formula_features("many", 8193, 4),
             fake = formula_features("others", 40, 4, 1, 0.3);  // 8192 are done in one pass
  const Kid kid = kernel_distance(many, fake, {3, 20, 1});
  NumpyRandomState random(1);
  double sum = 0;
  for (int i = 0; i < 3; ++i) {
    const auto a = many.index_select(0, at::tensor(random.choice(8193, 20))),
               b = fake.index_select(0, at::tensor(random.choice(40, 20)));
    sum += kernel_distance(a, b, {1, 20, 0}).mean;  // of all that there are
  }
  CHECK(close(kid.mean, sum / 3, 1e-9));
  const auto influence = kernel_influence(many, fake);
  CHECK(influence.first.size(0) == 8193);
  CHECK(influence.second.size(0) == 40);
}

TEST_CASE("the influences of KID are of mean 0, and what is lost without a feature") {
  const Sides sides = full();
  const auto [real, fake] = kernel_influence(sides.real, sides.fake);
  CHECK(std::abs(real.mean().item<double>()) < 1e-9);
  CHECK(std::abs(fake.mean().item<double>()) < 1e-9);
  const auto kernel = [](const at::Tensor& x, const at::Tensor& y) {
    return (at::matmul(x.to(at::kDouble), y.to(at::kDouble).t()) / static_cast<double>(x.size(1)) + 1).pow(3);
  };
  const auto within = [&](const at::Tensor& x) {
    const auto n = static_cast<double>(x.size(0));
    return kernel(x, x).fill_diagonal_(0).sum().item<double>() / (n * (n - 1));
  };
  const auto discrepancy = [&](const at::Tensor& x, const at::Tensor& y) {
    return within(x) + within(y) - 2 * kernel(x, y).mean().item<double>();
  };
  const auto without = [](const at::Tensor& x, std::int64_t i) {
    return at::cat({x.narrow(0, 0, i), x.narrow(0, i + 1, x.size(0) - i - 1)}, 0);
  };
  for (const bool first : {true, false}) {
    CAPTURE(first);
    const at::Tensor& rows = first ? sides.real : sides.fake;
    const at::Tensor& other = first ? sides.fake : sides.real;
    const at::Tensor& influence = first ? real : fake;
    const auto lost = [&](std::int64_t i) { return -discrepancy(without(rows, i), other); };
    const auto most = influence.argmax().item<std::int64_t>(), least = influence.argmin().item<std::int64_t>();
    const double between = (influence[most] - influence[least]).item<double>() / static_cast<double>(rows.size(0) - 1);
    CHECK(close(lost(most) - lost(least), between, 0.02));
  }
}

TEST_CASE("intervals: the same for the same seed, around the estimate, narrower with more values") {
  const auto values = seeded("values", {400}).to(at::kDouble);
  const auto interval = bootstrap_mean(values, {.resamples = 500, .seed = 3});
  REQUIRE(interval);
  CHECK(interval == bootstrap_mean(values, {.resamples = 500, .seed = 3}));
  CHECK(interval != bootstrap_mean(values, {.resamples = 500, .seed = 4}));
  const double mean = values.mean().item<double>(), error = values.std().item<double>() / 20;
  CHECK(interval->first < mean);
  CHECK(mean < interval->second);
  CHECK(interval->second - interval->first == doctest::Approx(2 * 1.96 * error).epsilon(0.15));
  const auto few = bootstrap_mean(values.narrow(0, 0, 50), {.resamples = 500});
  CHECK(few->second - few->first > 2 * (interval->second - interval->first));
  CHECK_FALSE(bootstrap_mean(values, {.resamples = 0}));
  CHECK_FALSE(bootstrap_mean(values.narrow(0, 0, 1)));
  const auto both = bootstrap_influence(5, values - mean, values - mean),
             one = bootstrap_influence(5, {}, values - mean);
  CHECK(both->second - both->first == doctest::Approx(std::sqrt(2.0) * (one->second - one->first)).epsilon(0.2));
  CHECK(one->first < 5);
  CHECK(one->second > 5);
}

TEST_CASE("the interval of pairs resamples pictures, and skips pairs that were not compared") {
  auto pairs = at::full({30, 30}, std::nan(""), at::kDouble);
  const auto values = seeded("pairs", {30}).to(at::kDouble);
  for (std::int64_t i = 0; i < 30; ++i)
    for (std::int64_t j = 0; j < i; ++j)
      if ((i + j) % 3) pairs[i][j] = pairs[j][i] = 2 + values[i] + values[j];
  const auto interval = bootstrap_pairs(pairs);
  REQUIRE(interval);
  CHECK(interval->first < pairs.nanmean().item<double>());
  CHECK(interval->second > pairs.nanmean().item<double>());
  // Two pictures a pair: about twice the deviation of the mean of one.
  const double error = values.std().item<double>() / std::sqrt(30.0);
  CHECK(interval->second - interval->first == doctest::Approx(2 * 1.96 * 2 * error).epsilon(0.3));
}

TEST_CASE("too few features, other dimensions and numbers that are not finite are refused") {
  const auto error = [](const auto& action) { return test::error_of(base::ExitCode::data, action); };
  const auto rows = formula_features("x", 6, 4);
  CHECK(test::contains(error([&] { feature_statistics(rows.narrow(0, 0, 1)); }), "1 pictures are too few"));
  auto broken = rows.clone();
  broken[2][1] = NAN;
  CHECK(test::contains(error([&] { feature_statistics(broken); }), "not finite"));
  CHECK(test::contains(error([&] { distance({rows, formula_features("y", 6, 5)}); }), "4 and of 5"));
  CHECK(test::contains(error([&] { kernel_distance(rows, rows, {10, 7}); }),
                       "6 and 6 pictures are too few for KID's subsets of 7"));
  CHECK(test::contains(error([&] { kernel_distance(rows, rows, {10, 1}); }), "subsets of 1"));
}
