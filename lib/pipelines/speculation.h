#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/seed.h"
#include "pipelines/prefill.h"
#include "pipelines/sampling.h"

/// Speculative decoding: several tokens are proposed, the model computes the logits behind all of them in one pass, and keeps
/// the proposals that it would have said itself (Leviathan et al. 2023, arXiv:2211.17192; Chen et al. 2023, arXiv:2302.01318).
///
/// Here a proposal is right where the model's own draw, with the random number that its place has anyway, comes out as the
/// same token. For a look-up this is the method of those papers: the proposal is certain, so it is accepted with the
/// probability p(token), and otherwise what is left of p is drawn from. A draft model draws with the random number that the
/// model will use for the same place. That accepts a little less often than the papers' coin, min(1, p / q), and gives more:
/// not only the distribution, but every byte of a result is what it is without proposals.
namespace atelier::pipelines {

/// How a request's tokens are proposed.
struct Speculation {
  std::int64_t tokens = 0;                           ///< most at once; 0: none
  std::shared_ptr<const TextModel> draft = nullptr;  ///< proposes; null: look-up in prompt and reply
  double draft_cost = 0;  ///< of a step of the draft model, in steps of the model; 0: as their numbers of parameters
  std::shared_ptr<PromptState> draft_prompt = nullptr;  ///< as GenerationRequest::shared, of the draft model; or null
};

/// Error(data) where the draft model's vocabulary is not the model's. `what` names the draft in the message.
void require_same_vocabulary(const TextModel& model, const TextModel& draft, const std::string& what);

/// How often a proposal of one kind was right, lately.
class Chance {
 public:
  explicit Chance(double first) : value_(first) {}
  double value() const { return value_; }
  void observe(bool right) { value_ += 0.15 * ((right ? 1 : 0) - value_); }

 private:
  double value_;
};

struct DraftTask;

/// Proposes the tokens of one reply, and learns from what becomes of them.
///
/// How many are worth proposing follows from what was right lately: the next one is proposed as long as the chance that it and
/// those before it are right, times the time that a token takes otherwise, is more than its own time. What a look-up would have
/// said is compared with what came also where it was not worth saying; a draft model that was wrong too often rests, for twice
/// as long each time, and is then tried again with one token.
class Speculator {
 public:
  Speculator(const Speculation& how, const TextModel& model);
  /// Gives the draft model's cache back to where it came from.
  ~Speculator();
  Speculator(const Speculator&) = delete;
  Speculator& operator=(const Speculator&) = delete;

  bool drafts() const { return how_.draft != nullptr; }
  const TextModel& draft() const { return *how_.draft; }

  /// The prompt, for a draft model. May throw PastDeadline, as prefill().
  void enter(std::span<const text::TokenId> prompt);

  /// Looks up what followed the latest of the longest repetitions of the last tokens, and decides how much of it to propose: at
  /// most `room` tokens. `batch`: sequences that are decoded together.
  void look_up(const History& history, std::int64_t room, std::int64_t batch);

  /// How many tokens the draft model should propose. `known`: tokens of prompt and reply.
  std::int64_t wanted(std::int64_t known, std::int64_t room, std::int64_t batch);
  /// Lets the draft models of all tasks, which are one, propose; a step of it is shared by all that still want one.
  static void draft_tokens(std::span<DraftTask> tasks);

  /// What the model gets to see this time.
  std::span<const text::TokenId> proposed() const { return std::span(guess_).first(sent_); }
  /// What is compared with the tokens that come: with a look-up also what was not worth proposing.
  std::span<const text::TokenId> guess() const { return guess_; }
  /// Whether the i-th of guess() was right.
  void learn(std::size_t i, bool right);
  /// This time's tokens are known: `count` of prompt and reply together, less the last one, which no cache has yet.
  void settle(std::int64_t count);

 private:
  double cost(std::int64_t batch) const;
  Chance& chance(std::size_t i);

  Speculation how_;
  std::size_t vocabulary_ = 0;  ///< ids that both models have
  std::vector<text::TokenId> guess_;
  std::size_t sent_ = 0;
  std::array<Chance, 4> by_match_;  ///< of a look-up, by the length of the repetition: 1, 2, 3, more
  std::size_t matched_ = 0;
  Chance drafted_{0.6};
  std::int64_t rest_ = 2, resting_ = 0;    ///< steps
  nn::KvCache cache_;                      ///< the draft model's
  bool trying_ = false, entered_ = false;  ///< a trial of cache_ is open; cache_ belongs to draft_prompt
};

/// What one reply wants of its draft model.
struct DraftTask {
  Speculator* speculator = nullptr;
  std::span<const text::TokenId> prompt;
  std::vector<text::TokenId> reply;  ///< grows by what is proposed
  const SamplingOptions* sampling = nullptr;
  base::Generator generator;  ///< a copy: the numbers that the model will draw with
  std::int64_t wanted = 0;    ///< at least 1
};

}  // namespace atelier::pipelines
