#include "pipelines/speculation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "base/error.h"

namespace atelier::pipelines {
namespace {

using text::TokenId;

/// What one more row adds to a step of one row, as an estimate: the true share depends on the weights' format and the processor
/// (scripts/bench decoding --only rows); a constant keeps the number of proposals the same from run to run.
constexpr double row_cost = 0.2;

/// Longer repetitions than this are not told apart.
constexpr std::size_t longest_match = 16;

struct Repetition {
  std::size_t length = 0, next = 0;  ///< `next`: the place behind it
};

/// The longest earlier place that ends as the whole does, the latest of equally long ones.
Repetition find_repetition(std::span<const TokenId> tokens) {
  Repetition best;
  for (std::size_t end = tokens.size() - 1; end > 0 && best.length < longest_match;
       --end) {  // end: one behind the earlier one
    std::size_t length = 0;
    while (length < end && length < longest_match && tokens[end - 1 - length] == tokens[tokens.size() - 1 - length])
      ++length;
    if (length > best.length) best = {length, end};
  }
  return best;
}

/// A trial must not be longer than a window.
std::int64_t shortest_window(const TextModel& model) {
  const auto& c = model.network->config();
  const bool sliding = std::find(c.sliding.begin(), c.sliding.end(), true) != c.sliding.end();
  return sliding ? c.window : c.max_positions;
}

}  // namespace

void require_same_vocabulary(const TextModel& model, const TextModel& draft, const std::string& what) {
  const text::Tokenizer &ours = *model.tokenizer, &theirs = *draft.tokenizer;
  const auto fail = [&](const std::string& why) {
    throw base::Error(base::ExitCode::data, fmt::format("--draft: {}: {}", what, why),
                      "a draft model has the model's own tokenizer");
  };
  if (ours.size() != theirs.size())
    fail(fmt::format("its vocabulary has {} pieces, the model's {}", theirs.size(), ours.size()));
  for (TokenId id = 0; id < ours.size(); ++id)
    if (ours.piece(id) != theirs.piece(id))
      fail(fmt::format("token {} is \"{}\", the model's is \"{}\"", id, theirs.piece(id), ours.piece(id)));
}

Speculator::Speculator(const Speculation& how, const TextModel& model)
    : how_(how), by_match_{Chance(0.15), Chance(0.45), Chance(0.6), Chance(0.75)} {
  how_.tokens = std::min(how_.tokens, shortest_window(model) - 1);
  if (!how_.draft) return;
  const auto &ours = model.network->config(), &theirs = how_.draft->network->config();
  how_.tokens = std::min(how_.tokens, shortest_window(*how_.draft));
  if (how_.draft_cost == 0)
    how_.draft_cost = static_cast<double>(theirs.parameters()) / static_cast<double>(ours.parameters());
  vocabulary_ = static_cast<std::size_t>(std::min(ours.vocab_size, theirs.vocab_size));
}

Speculator::~Speculator() {
  if (!entered_) return;
  if (trying_) cache_.end_trial(cache_.positions);
  how_.draft_prompt->leave(std::move(cache_));
}

void Speculator::enter(std::span<const TokenId> prompt) {
  if (!how_.draft || static_cast<std::int64_t>(prompt.size()) >= how_.draft->context) return;
  if (how_.draft_prompt) {
    how_.draft_prompt->enter(*how_.draft, prompt, cache_);
    entered_ = true;
  } else {
    cache_ = how_.draft->network->new_cache();
    prefill(*how_.draft, prompt, cache_, [](const at::Tensor&, std::int64_t) {});
  }
}

/// The time of one more proposal, in times that a token takes without proposals.
double Speculator::cost(std::int64_t batch) const {
  const auto b = static_cast<double>(batch);
  return row_cost * b / (1 + row_cost * (b - 1)) + how_.draft_cost;
}

Chance& Speculator::chance(std::size_t i) {
  return drafts() ? drafted_ : by_match_[std::min<std::size_t>(matched_ + i, 4) - 1];
}

void Speculator::look_up(const History& history, std::int64_t room, std::int64_t batch) {
  std::vector<TokenId> tokens(history.prompt.begin(), history.prompt.end());
  tokens.insert(tokens.end(), history.reply.begin(), history.reply.end());
  guess_.clear();
  sent_ = 0;
  const Repetition found = find_repetition(tokens);
  matched_ = found.length;
  if (matched_ == 0) return;
  for (std::int64_t i = 0; i < std::max<std::int64_t>(1, std::min(room, how_.tokens)); ++i) {
    // What repeats itself goes on repeating itself: behind the end come the proposals.
    guess_.push_back(tokens[found.next + static_cast<std::size_t>(i)]);
    tokens.push_back(guess_.back());
  }
  double all_right = 1;
  for (std::int64_t i = 0; i < std::min(room, how_.tokens); ++i) {
    all_right *= chance(static_cast<std::size_t>(i)).value();
    if (all_right < cost(batch)) return;
    ++sent_;
  }
}

std::int64_t Speculator::wanted(std::int64_t known, std::int64_t room, std::int64_t batch) {
  guess_.clear();
  sent_ = 0;
  const std::int64_t most = std::min({how_.tokens, room, how_.draft->context - known});
  if (most <= 0 || cache_.layers.empty()) return 0;
  if (resting_ > 0) return --resting_ == 0 ? 1 : 0;
  std::int64_t count = 0;
  for (double all_right = drafted_.value(); count < most && all_right >= cost(batch); all_right *= drafted_.value())
    ++count;
  if (count == 0) {
    resting_ = rest_;
    rest_ = std::min<std::int64_t>(64, 2 * rest_);
  } else {
    rest_ = 2;
  }
  return count;
}

void Speculator::learn(std::size_t i, bool right) { chance(i).observe(right); }

void Speculator::settle(std::int64_t count) {
  if (std::exchange(trying_, false)) cache_.end_trial(std::min(cache_.positions, count));
}

namespace {

bool all_finite(std::span<const float> numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](float x) { return std::isfinite(x); });
}

/// The logits behind the last of each sequence's tokens.
at::Tensor last_logits(const TextModel& model, const std::vector<TokenId>& tokens,
                       const std::vector<nn::KvCache*>& caches, const std::vector<std::int64_t>& counts) {
  const at::Tensor hidden = model.network->forward({tokens, caches, counts});
  std::vector<std::int64_t> last;
  for (std::int64_t s = 0, end = 0; s < std::ssize(counts); ++s) last.push_back((end += counts[s]) - 1);
  return model.network->logits(hidden.index_select(0, at::tensor(last, hidden.options().dtype(at::kLong)))).cpu();
}

}  // namespace

void Speculator::draft_tokens(std::span<DraftTask> tasks) {
  const TextModel& draft = tasks.front().speculator->draft();
  std::vector<DraftTask*> open;
  for (DraftTask& task : tasks) open.push_back(&task);
  for (bool first = true; !open.empty(); first = false) {
    std::vector<TokenId> tokens;
    std::vector<nn::KvCache*> caches;
    std::vector<std::int64_t> counts;
    const std::int64_t share = nn::max_invariant_rows / std::ssize(open);
    for (DraftTask* task : open) {
      std::vector<TokenId> all(task->prompt.begin(), task->prompt.end());
      all.insert(all.end(), task->reply.begin(), task->reply.end());
      nn::KvCache& cache = task->speculator->cache_;
      std::span<const TokenId> missing =
          std::span<const TokenId>(all).subspan(static_cast<std::size_t>(cache.positions));
      if (std::ssize(missing) > share) {  // after a rest
        prefill(draft, missing.first(missing.size() - 1), cache, [](const at::Tensor&, std::int64_t) {});
        missing = missing.last(1);
      }
      tokens.insert(tokens.end(), missing.begin(), missing.end());
      caches.push_back(&cache);
      counts.push_back(std::ssize(missing));
    }
    const at::Tensor logits = last_logits(draft, tokens, caches, counts);
    for (std::size_t i = 0; i < open.size(); ++i) {
      DraftTask& task = *open[i];
      Speculator& speculator = *task.speculator;
      const std::span<const float> row(logits.const_data_ptr<float>() + static_cast<std::int64_t>(i) * logits.size(1),
                                       speculator.vocabulary_);
      if (!all_finite(row)) {
        task.wanted = 0;
        continue;
      }
      task.reply.push_back(sample(row, {task.prompt, task.reply}, *task.sampling, task.generator));
      speculator.guess_.push_back(task.reply.back());
      ++speculator.sent_;
      if (--task.wanted > 0 && first) {
        speculator.cache_.begin_trial(task.wanted);
        speculator.trying_ = true;
      }
    }
    std::erase_if(open, [](const DraftTask* task) { return task->wanted == 0; });
  }
}

}  // namespace atelier::pipelines
