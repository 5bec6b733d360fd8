// Bradley-Terry ratings and quantiles, against values of other algorithms.
#include <doctest/doctest.h>

#include <cmath>

#include "metrics/bradley_terry.h"
#include "metrics/quantiles.h"
#include "support/errors.h"

namespace {

using namespace atelier;
using namespace atelier::metrics;

const std::vector<Comparison> kAnswers{{0, 1, 1}, {0, 1, 1}, {0, 1, 0}, {1, 2, 1}, {1, 2, 0.5}, {2, 0, 1},
                                       {2, 0, 0}, {0, 3, 1}, {3, 1, 1}, {3, 2, 0}, {3, 2, 0.5}, {0, 2, 1}};

}  // namespace

TEST_CASE("strengths are those of maximum likelihood") {
  // By gradient ascent in log strengths, to a gradient below 1e-13.
  const std::vector<double> without{2.085461496055713, 0.8881723719241159, 0.8535004510274522, 0.6325528394806242};
  const std::vector<double> with{1.9005546769344626, 0.8856331833389794, 0.8627405056655822, 0.6886294034861951};
  const auto plain = fit_strengths(4, kAnswers, 0), drawn = fit_strengths(4, kAnswers, 1);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(plain[i] == doctest::Approx(without[i]).epsilon(1e-7));
    CHECK(drawn[i] == doctest::Approx(with[i]).epsilon(1e-7));
  }
}

TEST_CASE("10 wins of 11 are 400 points more") {
  std::vector<Comparison> answers(10, {0, 1, 1});
  answers.push_back({0, 1, 0});
  const auto ratings = rate(2, answers, {.prior = 0, .resamples = 200});
  CHECK(ratings[0].elo - ratings[1].elo == doctest::Approx(400).epsilon(1e-6));
  CHECK(ratings[0].elo + ratings[1].elo == doctest::Approx(2000).epsilon(1e-6));
  CHECK(ratings[0].games == 11);
  CHECK(ratings[0].wins == 10);
  CHECK(ratings[1].wins == 1);
  CHECK(ratings[0].interval.first < ratings[0].elo);
  CHECK(ratings[0].interval.second > ratings[0].elo);
}

TEST_CASE("answers that determine no rating are refused without a prior, and finite with one") {
  const std::vector<Comparison> one_sided{{0, 1, 1}, {0, 1, 1}}, apart{{0, 1, 1}, {0, 1, 0}, {2, 3, 0}, {2, 3, 1}};
  const auto check = [](std::size_t count, const std::vector<Comparison>& answers) {
    CHECK(test::contains(test::error_of(base::ExitCode::data, [&] { fit_strengths(count, answers, 0); }),
                         "do not determine"));
    for (const double p : fit_strengths(count, answers, 1)) CHECK(std::isfinite(p));
  };
  check(2, one_sided);
  check(4, apart);
  const auto strengths = fit_strengths(2, one_sided, 1);
  CHECK(strengths[0] > strengths[1]);
}

TEST_CASE("more answers make intervals narrower, and the same seed the same ones") {
  std::vector<Comparison> few, many;
  for (int i = 0; i < 400; ++i) (i < 20 ? few : many).push_back({0, 1, i % 3 == 0 ? 0.0 : 1.0});
  const auto narrow = rate(2, many, {.resamples = 300, .seed = 4}), wide = rate(2, few, {.resamples = 300, .seed = 4});
  const auto width = [](const Rating& r) { return r.interval.second - r.interval.first; };
  CHECK(width(narrow[0]) < 0.5 * width(wide[0]));
  CHECK(rate(2, many, {.resamples = 300, .seed = 4})[0].interval == narrow[0].interval);
  CHECK(rate(2, many, {.resamples = 300, .seed = 5})[0].interval != narrow[0].interval);
}

TEST_CASE("quantiles are numpy's") {
  const std::vector<double> values{3, 1, 4, 1, 5, 9, 2, 6};
  CHECK(quantile(values, 0.5) == doctest::Approx(3.5));
  CHECK(quantile(values, 0.95) == doctest::Approx(7.95));
  CHECK(quantile(values, 0) == 1);
  CHECK(quantile(values, 1) == 9);
  CHECK(quantile({7}, 0.95) == 7);
  CHECK(spread({}).n == 0);
  CHECK(spread(values).median == doctest::Approx(3.5));
}
