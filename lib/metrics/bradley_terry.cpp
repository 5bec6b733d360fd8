#include "metrics/bradley_terry.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/seed.h"
#include "base/stop.h"
#include "metrics/quantiles.h"

namespace atelier::metrics {
namespace {

constexpr int kMaxIterations = 20000;
constexpr double kTolerance = 1e-10;  // of the logarithm of a strength

/// Counts of the games between each two, and each one's wins: all that the likelihood knows of the answers.
struct Games {
  std::size_t count = 0;
  std::vector<double> played;  // (count, count), symmetric
  std::vector<double> beat;    // (count, count): wins of the row over the column, ties as halves

  Games(std::size_t n, const std::vector<Comparison>& comparisons, const std::vector<double>& weights)
      : count(n), played(n * n), beat(n * n) {
    for (std::size_t k = 0; k < comparisons.size(); ++k) {
      const auto& [a, b, score] = comparisons[k];
      const double weight = weights.empty() ? 1 : weights[k];
      played[a * n + b] += weight;
      played[b * n + a] += weight;
      beat[a * n + b] += weight * score;
      beat[b * n + a] += weight * (1 - score);
    }
  }

  double wins(std::size_t i) const {
    double sum = 0;
    for (std::size_t j = 0; j < count; ++j) sum += beat[i * count + j];
    return sum;
  }

  /// How many can be reached from the first by going from winners to losers, or the other way.
  std::size_t reached(bool downwards) const {
    std::vector<char> seen(count, 0);
    std::vector<std::size_t> open{0};
    seen[0] = 1;
    std::size_t found = 0;
    while (!open.empty()) {
      const std::size_t i = open.back();
      open.pop_back();
      ++found;
      for (std::size_t j = 0; j < count; ++j) {
        const bool edge = (downwards ? beat[i * count + j] : beat[j * count + i]) > 0;
        if (edge && seen[j] == 0) seen[j] = 1, open.push_back(j);
      }
    }
    return found;
  }

  /// Ford's condition: whoever is divided into two groups, some of each have beaten some of the other.
  bool has_maximum() const { return count < 2 || (reached(true) == count && reached(false) == count); }
};

void normalise(std::vector<double>& strengths) {
  double mean = 0;
  for (const double p : strengths) mean += std::log(p);
  mean /= static_cast<double>(strengths.size());
  for (double& p : strengths) p /= std::exp(mean);
}

std::vector<double> fit(const Games& games, double prior) {
  const std::size_t n = games.count;
  std::vector<double> strengths(n, 1.0), next(n, 1.0);
  std::vector<double> wins(n);
  for (std::size_t i = 0; i < n; ++i) wins[i] = games.wins(i) + prior / 2;
  for (int iteration = 0; iteration < kMaxIterations; ++iteration) {
    double change = 0;
    for (std::size_t i = 0; i < n; ++i) {
      double sum = prior / (strengths[i] + 1);  // the average opponent's strength is 1
      for (std::size_t j = 0; j < n; ++j)
        if (games.played[i * n + j] > 0) sum += games.played[i * n + j] / (strengths[i] + strengths[j]);
      next[i] = sum > 0 ? wins[i] / sum : strengths[i];
      change = std::max(change, std::abs(std::log(next[i] / strengths[i])));
    }
    strengths.swap(next);
    if (prior == 0) normalise(strengths);
    if (change < kTolerance) break;
  }
  normalise(strengths);
  return strengths;
}

double elo(double strength) { return 1000 + 400 * std::log10(strength); }

}  // namespace

std::vector<double> fit_strengths(std::size_t count, const std::vector<Comparison>& comparisons, double prior,
                                  const std::vector<double>& weights) {
  if (count == 0) return {};
  const Games games(count, comparisons, weights);
  if (prior == 0 && !games.has_maximum())
    throw base::Error(
        base::ExitCode::data,
        "the answers do not determine the ratings: some of the compared only ever won, or lost, against the others",
        "a prior above 0 keeps them finite");
  return fit(games, prior);
}

std::vector<Rating> rate(std::size_t count, const std::vector<Comparison>& comparisons, const RatingOptions& options) {
  const std::vector<double> strengths = fit_strengths(count, comparisons, options.prior);
  std::vector<Rating> ratings(count);
  for (std::size_t i = 0; i < count; ++i) ratings[i].elo = elo(strengths[i]);
  for (const Comparison& comparison : comparisons) {
    ++ratings[comparison.first].games;
    ++ratings[comparison.second].games;
    ratings[comparison.first].wins += comparison.score;
    ratings[comparison.second].wins += 1 - comparison.score;
  }
  base::Generator generator(options.seed);
  std::vector<std::vector<double>> drawn(count);
  for (int round = 0; round < options.resamples && !comparisons.empty(); ++round) {
    base::throw_if_stopped();
    std::vector<double> weights(comparisons.size());
    for (const std::size_t k : resample(comparisons.size(), generator)) weights[k] += 1;
    // A sample may leave someone without a win, whatever the answers themselves hold: it gets the smallest prior.
    const auto sample = fit(Games(count, comparisons, weights), std::max(options.prior, 1e-3));
    for (std::size_t i = 0; i < count; ++i) drawn[i].push_back(elo(sample[i]));
  }
  for (std::size_t i = 0; i < count; ++i)
    ratings[i].interval = drawn[i].empty() ? std::pair{ratings[i].elo, ratings[i].elo}
                                           : std::pair{quantile(drawn[i], 0.025), quantile(drawn[i], 0.975)};
  return ratings;
}

}  // namespace atelier::metrics
