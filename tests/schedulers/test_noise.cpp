// Noise against torch, numpy.random.SeedSequence and torchsde.BrownianInterval: the expected numbers are theirs.
#include <cmath>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>

#include "base/error.h"
#include "schedulers/brownian.h"
#include "schedulers/levels.h"
#include "schedulers/noise.h"
#include "support/doctest_last.h"
#include "support/errors.h"

namespace {

using namespace atelier::schedulers;

void check_values(const at::Tensor& tensor, const std::vector<double>& expected) {
  const std::vector<double> values = to_vector(tensor.flatten());
  REQUIRE(values.size() == expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(values[i] - expected[i]) <= 2e-6 * std::max(1.0, std::abs(expected[i])));
  }
}

}  // namespace

TEST_CASE("each result of a batch has its own stream") {
  const std::vector<std::uint64_t> seeds{5, 6, 7};
  SeededNoise together(seeds);
  const at::Tensor first = together.normal({3, 2, 8}, at::kFloat), second = together.normal({3, 2, 8}, at::kFloat);
  for (std::size_t k = 0; k < seeds.size(); ++k) {
    SeededNoise alone(std::vector<std::uint64_t>{seeds[k]});
    CHECK(at::equal(alone.normal({1, 2, 8}, at::kFloat)[0], first[static_cast<std::int64_t>(k)]));
    CHECK(at::equal(alone.normal({1, 2, 8}, at::kFloat)[0], second[static_cast<std::int64_t>(k)]));
  }
  CHECK_FALSE(at::equal(first[0], first[1]));
}

TEST_CASE("streams are torch's, in the dtype that is drawn") {
  const std::vector<std::uint64_t> seeds{5};
  SeededNoise noise(seeds);
  check_values(noise.normal({1, 2}, at::kFloat), {-0.4867807626724243, -0.6038215756416321});
  CHECK((noise.normal({1, 2}, at::kHalf).scalar_type() == at::kHalf));
  CHECK_THROWS_AS(noise.normal({2, 2}, at::kFloat), atelier::base::Error);
}

TEST_CASE("seeds spread as numpy's SeedSequence spreads them") {
  CHECK(SeedSequence(7).first() == 1376543887U);
  CHECK(SeedSequence(0, {0, 0}).first() == 245430115U);
  CHECK(SeedSequence(123456789012, {5, 3}).first() == 4015752457U);
  CHECK(SeedSequence((std::uint64_t{1} << 63) - 1, {1, 1}).first() == 4198486676U);
}

TEST_CASE("Brownian paths are torchsde's") {
  const BrownianTree tree(0.029167, 14.614647, {4}, at::kFloat, 42);
  check_values(tree.increment(0.029167, 14.614647), {-1.7453525, -5.202156, 2.1306078, -0.5713494});
  check_values(tree.increment(3, 5.5), {1.0455245, 0.30947918, 0.80715877, -1.4084121});
  check_values(tree.increment(0.1, 0.1000011), {0.0009634568, -0.00047221102, -0.001551555, -0.0014691601});
  check_values(tree.increment(5.5, 14.6), {1.2494472, -4.2005563, 2.4281895, 0.97062284});
  check_values(tree.increment(1.23456789, 1.3), {0.22197238, 0.18316106, -0.37766322, -0.24145351});
}

TEST_CASE("a Brownian path does not depend on what is asked of it") {
  const BrownianTree tree(0, 1, {3}, at::kFloat, 9);
  const at::Tensor parts = tree.increment(0, 0.3) + tree.increment(0.3, 0.70001) + tree.increment(0.70001, 1);
  check_values(parts, to_vector(tree.increment(0, 1)));
  check_values(tree.increment(-5, 7), to_vector(tree.increment(0, 1)));  // cut to the path
  check_values(tree.increment(0.5, 0.5), {0, 0, 0});
}

TEST_CASE("quantiles of the beta distribution are scipy's") {
  const std::pair<double, double> expected[] = {
      {0, 0},     {1e-6, 1.8558824624053043e-10}, {0.01, 0.0008612388215429059}, {0.2, 0.12292175045833292},
      {0.5, 0.5}, {0.7, 0.7659829961247643},      {0.999, 0.9999814412614826},   {1, 1}};
  for (const auto& [p, x] : expected) {
    CAPTURE(p);
    CHECK(std::abs(beta_quantile(p, 0.6) - x) <= 1e-12 * std::max(x, 1e-4));
  }
}
