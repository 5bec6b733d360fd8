#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace atelier::metrics {

/// One answer: which of two was preferred.
struct Comparison {
  std::size_t first = 0, second = 0;  ///< places in the list of what is compared; they differ
  double score = 1;                   ///< of the first: 1 it won, 0 the second won, 0.5 a tie
};

/// One of the compared, on the scale of chess: 400 points more are odds of 10 to 1; the mean of all is 1000.
struct Rating {
  double elo = 1000;
  std::pair<double, double> interval{1000, 1000};  ///< bootstrap over the answers, 95 %
  std::size_t games = 0;
  double wins = 0;  ///< ties count half
};

struct RatingOptions {
  /// Draws that everyone is taken to have played against an average opponent before the first answer. Above 0 it keeps who never
  /// won or lost, or was never compared with the others, at a finite rating; at 0 the ratings are those of maximum likelihood,
  /// which then must exist.
  double prior = 1;
  int resamples = 1000;
  std::uint64_t seed = 0;
};

/// Strengths p of the model "i beats j with probability p_i / (p_i + p_j)", their geometric mean 1, fitted by Hunter's MM
/// algorithm. `weights`: how often each comparison counts; empty, once.
/// Error(data) where, without a prior, no maximum exists: someone won or lost every comparison, or all of those between two
/// groups went one way.
/// Reference: Bradley and Terry 1952; Hunter 2004, "MM algorithms for generalized Bradley-Terry models".
std::vector<double> fit_strengths(std::size_t count, const std::vector<Comparison>& comparisons, double prior,
                                  const std::vector<double>& weights = {});

/// Ratings with intervals, in the order of the compared.
std::vector<Rating> rate(std::size_t count, const std::vector<Comparison>& comparisons, const RatingOptions& options);

}  // namespace atelier::metrics
