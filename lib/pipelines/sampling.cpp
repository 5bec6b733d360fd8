#include "pipelines/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

namespace atelier::pipelines {
namespace {

using text::TokenId;

struct Scored {
  float score;
  TokenId id;
};

/// Most likely first; equal scores by id, so that the order is the same everywhere.
bool before(const Scored& a, const Scored& b) { return a.score != b.score ? a.score > b.score : a.id < b.id; }

void apply_penalties(std::vector<float>& scores, const History& history, const SamplingOptions& options) {
  const auto in_range = [&](TokenId id) { return id >= 0 && static_cast<std::size_t>(id) < scores.size(); };
  if (options.repeat_penalty != 1 && options.repeat_last_n != 0) {
    std::vector<TokenId> recent(history.prompt.begin(), history.prompt.end());
    recent.insert(recent.end(), history.reply.begin(), history.reply.end());
    const auto n =
        options.repeat_last_n < 0 ? recent.size() : std::min<std::size_t>(recent.size(), options.repeat_last_n);
    std::sort(recent.end() - n, recent.end());
    const auto last = std::unique(recent.end() - n, recent.end());
    for (auto it = recent.end() - n; it != last; ++it) {
      if (!in_range(*it)) continue;
      float& score = scores[*it];
      const auto penalty = static_cast<float>(options.repeat_penalty);
      score = score < 0 ? score * penalty : score / penalty;
    }
  }
  if (options.presence_penalty != 0 || options.frequency_penalty != 0) {
    std::unordered_map<TokenId, int> counts;
    for (const TokenId id : history.reply) ++counts[id];
    for (const auto& [id, count] : counts)
      if (in_range(id)) scores[id] -= static_cast<float>(options.presence_penalty + options.frequency_penalty * count);
  }
}

/// Moves the top-k candidates (and ties with the k-th) to the front, sorted.
void keep_top_k(std::vector<Scored>& all, std::int64_t k) {
  if (k > 0 && static_cast<std::size_t>(k) < all.size()) {
    std::nth_element(all.begin(), all.begin() + (k - 1), all.end(), before);
    const float last = all[k - 1].score;
    const auto end = std::partition(all.begin() + k, all.end(), [last](const Scored& s) { return s.score == last; });
    all.erase(end, all.end());
  }
}

/// The same of the scores of a whole vocabulary, without a copy of all of them: what cannot be among the best is passed over.
std::vector<Scored> best_scores(const std::vector<float>& scores, float scale, std::int64_t k) {
  std::vector<Scored> best;
  std::size_t room = 2 * static_cast<std::size_t>(k) + 256;
  float least = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const float score = scores[i] * scale;
    if (score < least) continue;
    best.push_back({score, static_cast<TokenId>(i)});
    if (best.size() < room) continue;
    keep_top_k(best, k);
    least = best[static_cast<std::size_t>(k) - 1].score;
    room = std::max(room, 2 * best.size());  // many may be equal
  }
  keep_top_k(best, k);
  return best;
}

/// Sorts only as much of the candidates as the nucleus needs: with the whole vocabulary open a full sort would cost more
/// than a small model's forward pass. Returns how many of them are kept.
std::size_t sort_nucleus(std::vector<Scored>& all, double top_p, double top, double total) {
  if (top_p >= 1) {
    std::sort(all.begin(), all.end(), before);
    return all.size();
  }
  double cumulative = 0;
  std::size_t sorted = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i == sorted) {
      sorted = std::min(all.size(), std::max<std::size_t>(256, 8 * sorted));
      if (sorted < all.size()) std::nth_element(all.begin() + i, all.begin() + sorted, all.end(), before);
      std::sort(all.begin() + i, all.begin() + sorted, before);
    }
    if (i > 0 && cumulative >= top_p) return i;
    cumulative += std::exp(all[i].score - top) / total;
  }
  return all.size();
}

/// The scores of the tokens that may be drawn, scaled.
std::vector<Scored> open_scores(const std::vector<float>& scores, float scale, AllowedTokens allowed) {
  std::vector<Scored> all;
  if (allowed.empty()) {
    all.resize(scores.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = {scores[i] * scale, static_cast<TokenId>(i)};
    return all;
  }
  for (std::size_t word = 0; word < allowed.size(); ++word)
    for (std::uint64_t bits = allowed[word]; bits != 0; bits &= bits - 1) {
      const std::size_t i = 64 * word + static_cast<std::size_t>(std::countr_zero(bits));
      if (i < scores.size()) all.push_back({scores[i] * scale, static_cast<TokenId>(i)});
    }
  return all;
}

}  // namespace

std::vector<Candidate> filtered_distribution(std::span<const float> logits, const History& history,
                                             const SamplingOptions& options, AllowedTokens allowed) {
  std::vector<float> scores(logits.begin(), logits.end());
  apply_penalties(scores, history, options);
  if (options.temperature == 0 && allowed.empty()) {
    const auto best = std::max_element(scores.begin(), scores.end());
    return {{static_cast<TokenId>(best - scores.begin()), 1.0}};
  }
  const auto inverse = static_cast<float>(options.temperature == 0 ? 1 : 1 / options.temperature);
  const bool whole = allowed.empty() && options.top_k > 0;
  std::vector<Scored> all = whole ? best_scores(scores, inverse, options.top_k) : open_scores(scores, inverse, allowed);
  if (options.temperature == 0) return {{std::min_element(all.begin(), all.end(), before)->id, 1.0}};
  if (!whole) keep_top_k(all, options.top_k);

  const double top =
      std::max_element(all.begin(), all.end(), [](auto& a, auto& b) { return a.score < b.score; })->score;
  double total = 0;
  for (const auto& s : all) total += std::exp(s.score - top);
  all.resize(sort_nucleus(all, options.top_p, top, total));
  if (options.min_p > 0) std::erase_if(all, [&](const Scored& s) { return std::exp(s.score - top) < options.min_p; });

  total = 0;
  for (const auto& s : all) total += std::exp(s.score - top);
  std::vector<Candidate> kept;
  kept.reserve(all.size());
  for (const auto& s : all) kept.push_back({s.id, std::exp(s.score - top) / total});
  return kept;
}

TokenId sample(std::span<const float> logits, const History& history, const SamplingOptions& options,
               base::Generator& generator, AllowedTokens allowed) {
  const auto candidates = filtered_distribution(logits, history, options, allowed);
  if (options.temperature == 0) return candidates.front().id;
  double left = base::uniform(generator);
  for (const auto& candidate : candidates) {
    left -= candidate.probability;
    if (left < 0) return candidate.id;
  }
  return candidates.back().id;
}

LogprobEntry logprob_entry(std::span<const float> logits, TokenId chosen, std::int64_t top) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float logit : logits) total += std::exp(logit - most);
  const double log_total = most + std::log(total);
  LogprobEntry entry{{chosen, logits[chosen] - log_total}, {}};
  const auto n = static_cast<std::size_t>(std::clamp<std::int64_t>(top, 0, static_cast<std::int64_t>(logits.size())));
  if (n == 0) return entry;
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + n, order.end(),
                    [&](TokenId a, TokenId b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  for (std::size_t i = 0; i < n; ++i) entry.top.push_back({order[i], logits[order[i]] - log_total});
  return entry;
}

}  // namespace atelier::pipelines
