#include "pipelines/generation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <map>

#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include "base/error.h"
#include "base/stop.h"
#include "pipelines/stop_matcher.h"

namespace atelier::pipelines {

using text::TokenId;
using Clock = std::chrono::steady_clock;

namespace {

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::span<const float> row_of(const at::Tensor& logits, std::int64_t row) {
  return {logits.const_data_ptr<float>() + row * logits.size(1), static_cast<std::size_t>(logits.size(1))};
}

base::Error not_finite() { return {base::ExitCode::condition, "the model's logits are not finite: damaged weights?"}; }

bool all_finite(std::span<const float> numbers) {
  constexpr std::size_t lanes = 16;  // sums that do not wait for one another
  float probe[lanes] = {};           // 0, or NaN from the first infinity or NaN on
  std::size_t i = 0;
  for (; i + lanes <= numbers.size(); i += lanes)
    for (std::size_t lane = 0; lane < lanes; ++lane) probe[lane] += numbers[i + lane] * 0.0F;
  for (; i < numbers.size(); ++i) probe[0] += numbers[i] * 0.0F;
  return std::all_of(std::begin(probe), std::end(probe), [](float p) { return p == 0; });
}

}  // namespace

namespace {

class SharedPrompt final : public PromptState {
 public:
  SharedPrompt(std::int64_t users, std::shared_ptr<PromptState> inner) : users_(users), inner_(std::move(inner)) {}

  Entered enter(const TextModel& model, std::span<const TokenId> tokens, nn::KvCache& cache) override {
    Entered entered;
    if (!logits_.defined()) {
      cache_ = model.network->new_cache();
      entered.computed = static_cast<std::int64_t>(tokens.size());
      if (inner_) {
        const Entered first = inner_->enter(model, tokens, cache_);
        logits_ = first.logits;
        entered.computed = first.computed;
      } else {
        logits_ = prefill_logits(model, tokens, cache_);
      }
    }
    cache = --users_ > 0 ? cache_.fork() : std::move(cache_);
    entered.logits = logits_;
    return entered;
  }

 private:
  std::int64_t users_;
  std::shared_ptr<PromptState> inner_;
  nn::KvCache cache_;
  at::Tensor logits_;
};

}  // namespace

std::shared_ptr<PromptState> share_prompt(std::int64_t users, std::shared_ptr<PromptState> inner) {
  return std::make_shared<SharedPrompt>(users, std::move(inner));
}

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::stop_text: return "stop_text";
    case FinishReason::safety: return "safety";
    default: return "deadline";
  }
}

namespace {

/// One request on its way: what it has said, and how its next token is chosen.
class Stream {
 public:
  Stream(const TextModel& model, GenerationRequest request)
      : request_(std::move(request)),
        model_(model),
        generator_(request_.seed),
        decoder_(*model.tokenizer),
        matcher_(request_.stop_texts),
        start_(Clock::now()) {
    const auto length = static_cast<std::int64_t>(request_.prompt.size());
    budget_ = std::min(request_.max_tokens, model.context - length);
    if (request_.deadline_seconds)
      deadline_ = start_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*request_.deadline_seconds));
    result_.prompt_tokens = length;
    if (request_.constraint) constraint_.emplace(request_.constraint, budget_);
    if (request_.speculation.tokens > 0) speculator_.emplace(request_.speculation, model_);
  }

  /// A reply that is given up (a signal) leaves its cache as a finished one does.
  ~Stream() { give_cache_back(); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void start() {
    bool late = false;
    try {
      const PrefillDeadline deadline(deadline_);
      enter_prompt();
      if (speculator_ && budget_ > 1) speculator_->enter(request_.prompt);
    } catch (const PastDeadline&) {
      late = true;
      result_.prefilled_tokens = result_.prompt_tokens;  // none of them came from a cache
    }
    result_.prefill_seconds = seconds_since(start_);
    decode_start_ = Clock::now();
    if (late)
      finish(FinishReason::deadline);
    else if (budget_ <= 0)
      finish(FinishReason::length);
    else
      accept(row_of(logits_, 0));
    logits_ = at::Tensor();
  }

  /// Looks up what may come next, or says what a draft model should propose. `room`: places of the next step.
  void look_ahead(std::int64_t room, std::int64_t batch, std::vector<DraftTask>& drafts) {
    if (!speculator_) return;
    // The last token of the budget is not worth proposing: the step that it is in would end with it anyway.
    room = std::min(room, budget_ - std::ssize(result_.token_ids) - 1);
    if (!speculator_->drafts()) return speculator_->look_up({request_.prompt, result_.token_ids}, room, batch);
    const std::int64_t known = std::ssize(request_.prompt) + std::ssize(result_.token_ids);
    if (const std::int64_t wanted = speculator_->wanted(known, room, batch); wanted > 0)
      drafts.push_back({&*speculator_, request_.prompt, result_.token_ids, &request_.sampling, generator_, wanted});
  }

  /// What the next step computes: the last token and, behind it, what is proposed.
  std::int64_t enter_step(std::vector<TokenId>& tokens) {
    tokens.push_back(result_.token_ids.back());
    if (!speculator_ || speculator_->proposed().empty()) return 1;
    const auto proposed = speculator_->proposed();
    tokens.insert(tokens.end(), proposed.begin(), proposed.end());
    result_.proposed_tokens += std::ssize(proposed);
    kept_positions_ = cache.positions;
    cache.begin_trial(1 + std::ssize(proposed));
    trying_ = true;
    return 1 + std::ssize(proposed);
  }

  /// Chooses tokens from the logits of a step, row by row from `first` on, as long as they are what was proposed.
  void leave_step(const at::Tensor& logits, std::int64_t first) {
    if (!speculator_) return accept(row_of(logits, first));
    const auto guess = speculator_->guess();
    const std::size_t sent = speculator_->proposed().size();
    kept_positions_ = cache.positions - static_cast<std::int64_t>(sent);
    for (std::size_t i = 0;; ++i, ++kept_positions_) {
      drawn_.reset();
      accept(row_of(logits, first + static_cast<std::int64_t>(i)));
      const bool right = i < guess.size() && drawn_ == guess[i];
      if (i < guess.size() && drawn_) speculator_->learn(i, right);
      if (i < sent && right) ++result_.accepted_tokens;
      if (finished_ || i == sent || !right) break;
    }
    speculator_->settle(kept_positions_);
    take_back();
  }

  /// Chooses the next token from its logits.
  void accept(std::span<const float> logits) {
    if (!all_finite(logits)) {
      result_.failure = not_finite();
      return finish(FinishReason::length);
    }
    if (past_deadline()) return finish(FinishReason::deadline);
    if (constraint_ && !keeps([this] { narrow(); })) return finish(FinishReason::length);
    const TokenId id = sample(logits, {request_.prompt, result_.token_ids}, request_.sampling, generator_, allowed_);
    drawn_ = id;
    ++result_.decoded_tokens;
    if (std::find(request_.stop_ids.begin(), request_.stop_ids.end(), id) != request_.stop_ids.end())
      return finish(FinishReason::stop);
    starts_.push_back(decoded_ + waiting_before(id));
    result_.token_ids.push_back(id);
    if (request_.logprobs) result_.logprobs.push_back(logprob_entry(logits, id, *request_.logprobs));
    const std::string text = decoder_.push(id);
    decoded_ += text.size();
    say(matcher_.push(text));
    if (matcher_.matched()) return finish(FinishReason::stop_text);
    bool complete = false;
    if (constraint_ && !keeps([&] { complete = constraint_->advance(id).finished(); })) return finish(FinishReason::length);
    if (complete) return finish(FinishReason::stop);
    if (static_cast<std::int64_t>(result_.token_ids.size()) >= budget_) return finish(FinishReason::length);
  }

  bool finished() const { return finished_; }
  const GenerationRequest& request() const { return request_; }
  GenerationResult take() { return std::move(result_); }

  nn::KvCache cache;

 private:
  void enter_prompt() {
    if (request_.shared) {
      const auto entered = request_.shared->enter(model_, request_.prompt, cache);
      entered_ = true;
      logits_ = entered.logits;
      result_.prefilled_tokens = entered.computed;
    } else {
      cache = model_.network->new_cache();
      logits_ = prefill_logits(model_, request_.prompt, cache);
      result_.prefilled_tokens = result_.prompt_tokens;
    }
  }

  bool past_deadline() const { return deadline_ && Clock::now() > *deadline_; }

  /// Whether a step of the constraint succeeds; a row whose constraint grows too complex fails alone.
  template <typename Step>
  bool keeps(Step step) {
    const auto begin = Clock::now();
    try {
      step();
    } catch (const base::Error& error) {
      result_.failure = error;
    }
    result_.constraint_seconds += seconds_since(begin);
    return !result_.failure;
  }

  /// Leaves only what the constraint allows; the end only where the text conforms as it is.
  void narrow() {
    const auto open = constraint_->allowed();
    allowed_.assign(open.begin(), open.end());
    if (constraint_->accepts())
      for (const TokenId id : request_.stop_ids)
        if (const auto i = static_cast<std::size_t>(id); i / 64 < allowed_.size())
          allowed_[i / 64] |= std::uint64_t{1} << (i % 64);
    if (std::ranges::all_of(allowed_, [](auto word) { return word == 0; }))
      throw base::Error(base::ExitCode::condition, "the model's vocabulary cannot spell what the constraint asks for");
  }

  void say(const std::string& text) {
    result_.text += text;
    if (request_.on_text && !text.empty()) request_.on_text(text);
  }

  void finish(FinishReason reason) {
    finished_ = true;
    if (reason != FinishReason::stop_text) {
      say(matcher_.push(decoder_.flush()));
      if (matcher_.matched())
        reason = FinishReason::stop_text;
      else
        say(matcher_.flush());
    }
    if (reason == FinishReason::stop_text) drop_tokens_behind(matcher_.cut());
    result_.finish_reason = reason;
    if (constraint_ && !result_.failure && !constraint_->accepts())
      result_.failure.emplace(base::ExitCode::condition, "the deadline ended the text before it conformed");
    result_.decode_seconds = seconds_since(decode_start_);
    give_cache_back();
  }

  /// Forgets the keys and values of proposals that were wrong.
  void take_back() {
    if (std::exchange(trying_, false)) cache.end_trial(kept_positions_);
  }

  void give_cache_back() {
    take_back();
    if (std::exchange(entered_, false)) request_.shared->leave(std::move(cache));
    cache = {};
  }

  /// How much text lies between what was decoded so far and the token's own: bytes that wait for the rest of their character
  /// stay as many where the token goes on with it; where it does not, each becomes U+FFFD, which has three.
  std::size_t waiting_before(TokenId id) const {
    text::StreamDecoder broken_off = decoder_;
    const std::size_t replaced = broken_off.flush().size();
    const std::string_view bytes = model_.tokenizer->bytes(id);
    const bool goes_on = !bytes.empty() && (static_cast<unsigned char>(bytes.front()) & 0xC0) == 0x80;
    return goes_on ? replaced / 3 : replaced;
  }

  /// Tokens that begin at or behind the stop text are not part of the result.
  void drop_tokens_behind(std::size_t cut) {
    while (!starts_.empty() && starts_.back() >= cut) starts_.pop_back();
    result_.token_ids.resize(starts_.size());
    if (request_.logprobs) result_.logprobs.resize(starts_.size());
  }

  GenerationRequest request_;
  const TextModel& model_;
  base::Generator generator_;
  text::StreamDecoder decoder_;
  StopMatcher matcher_;
  std::optional<Speculator> speculator_;
  std::optional<TokenId> drawn_;     ///< by the latest accept()
  std::int64_t kept_positions_ = 0;  ///< of the cache, without what was wrongly proposed
  std::optional<text::constraint::ConstraintState> constraint_;
  std::vector<std::uint64_t> allowed_;
  Clock::time_point start_, decode_start_;
  std::optional<Clock::time_point> deadline_;
  std::int64_t budget_ = 0;
  at::Tensor logits_;
  std::vector<std::size_t> starts_;  ///< where in the decoded text each token begins
  std::size_t decoded_ = 0;          ///< bytes of text so far
  GenerationResult result_;
  bool finished_ = false, entered_ = false, trying_ = false;
};

/// One token for every stream, and more where proposals are right.
void decode_step(const TextModel& model, std::vector<std::unique_ptr<Stream>>& streams) {
  const std::int64_t batch = std::ssize(streams), room = nn::max_invariant_rows / batch - 1;
  std::map<const TextModel*, std::vector<DraftTask>> drafts;
  for (auto& stream : streams) {
    std::vector<DraftTask> wanted;
    stream->look_ahead(room, batch, wanted);
    for (DraftTask& task : wanted) drafts[&task.speculator->draft()].push_back(std::move(task));
  }
  for (auto& [draft, tasks] : drafts) Speculator::draft_tokens(tasks);
  std::vector<TokenId> tokens;
  std::vector<nn::KvCache*> caches;
  std::vector<std::int64_t> counts;
  for (auto& stream : streams) {
    counts.push_back(stream->enter_step(tokens));
    caches.push_back(&stream->cache);
  }
  const at::Tensor logits =
      model.network->logits(model.network->forward({tokens, caches, counts})).cpu();  // (rows, vocab)
  for (std::int64_t i = 0, row = 0; i < batch; row += counts[i++]) streams[i]->leave_step(logits, row);
}

}  // namespace

void generate(const TextModel& model, std::int64_t batch_size,
              const std::function<std::optional<GenerationRequest>()>& next,
              const std::function<void(const GenerationRequest&, GenerationResult)>& done) {
  const c10::InferenceMode inference;
  std::vector<std::unique_ptr<Stream>> streams;
  bool more = true;
  while (more || !streams.empty()) {
    base::throw_if_stopped();
    while (more && static_cast<std::int64_t>(streams.size()) < batch_size) {
      auto request = next();
      more = request.has_value();
      if (!more) break;
      streams.push_back(std::make_unique<Stream>(model, std::move(*request)));
      streams.back()->start();
    }
    for (auto& stream : streams)
      if (stream->finished()) done(stream->request(), stream->take());
    std::erase_if(streams, [](const auto& stream) { return stream->finished(); });
    if (!streams.empty()) decode_step(model, streams);
  }
}

void require_room(const TextModel& model, const GenerationRequest& request) {
  if (!request.constraint) return;
  const auto room = model.context - static_cast<std::int64_t>(request.prompt.size());
  const text::constraint::ConstraintState start(request.constraint, std::min(request.max_tokens, room));
}

GenerationResult generate_one(const TextModel& model, const GenerationRequest& request) {
  std::optional<GenerationRequest> pending = request;
  GenerationResult result;
  generate(
      model, 1, [&] { return std::exchange(pending, std::nullopt); },
      [&](const GenerationRequest&, GenerationResult r) { result = std::move(r); });
  return result;
}

ScoreResult score(const TextModel& model, const std::vector<TokenId>& tokens, std::int64_t top) {
  const c10::InferenceMode inference;
  const auto start = Clock::now();
  ScoreResult result;
  auto cache = model.network->new_cache();
  double sum = 0;
  const auto count = static_cast<std::int64_t>(tokens.size());
  prefill(model, tokens, cache, [&](const at::Tensor& hidden, std::int64_t first) {
    for (std::int64_t i = 0; i < hidden.size(0); i += nn::max_invariant_rows) {
      const std::int64_t rows = std::min({nn::max_invariant_rows, hidden.size(0) - i, count - 1 - (first + i)});
      if (rows <= 0) break;
      const auto logits = model.network->logits(hidden.narrow(0, i, rows)).cpu();
      for (std::int64_t r = 0; r < rows; ++r) {
        if (!all_finite(row_of(logits, r))) throw not_finite();
        result.logprobs.push_back(logprob_entry(row_of(logits, r), tokens[first + i + r + 1], top));
        sum += result.logprobs.back().chosen.logprob;
      }
    }
  });
  result.perplexity = result.logprobs.empty() ? 1 : std::exp(-sum / static_cast<double>(result.logprobs.size()));
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace atelier::pipelines
