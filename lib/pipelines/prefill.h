#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "pipelines/text_model.h"

namespace atelier::pipelines {

/// Tokens of a prompt that go through the network at once: bounds the activations of long prompts.
inline constexpr std::int64_t prefill_chunk = 512;

/// Thrown by prefill() where a PrefillDeadline of this thread has passed.
struct PastDeadline {};

/// While it lives, prefills of this thread end with PastDeadline after `deadline`, by whatever caches they go.
class PrefillDeadline {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  explicit PrefillDeadline(std::optional<TimePoint> deadline);
  ~PrefillDeadline();
  PrefillDeadline(const PrefillDeadline&) = delete;
  PrefillDeadline& operator=(const PrefillDeadline&) = delete;

 private:
  std::optional<TimePoint> outer_;
};

/// Puts tokens behind what a cache holds, chunk by chunk; `each` sees the hidden states of every chunk, (n, hidden), and its
/// place among the tokens. Looks at the stop flag before every chunk; what was computed until then stays in the cache.
void prefill(const TextModel& model, std::span<const text::TokenId> tokens, nn::KvCache& cache,
             const std::function<void(const at::Tensor&, std::int64_t)>& each, std::int64_t chunk = prefill_chunk);

/// The same; returns the logits (1, vocab) behind the last token, in f32 on the CPU. At least one token.
at::Tensor prefill_logits(const TextModel& model, std::span<const text::TokenId> tokens, nn::KvCache& cache,
                          std::int64_t chunk = prefill_chunk);

/// How a prompt gets into a cache, for those who keep caches. A request without one computes all of its prompt.
class PromptState {
 public:
  virtual ~PromptState() = default;

  struct Entered {
    at::Tensor logits;          ///< (1, vocab) behind the last token, f32 on the CPU
    std::int64_t computed = 0;  ///< tokens that went through the network
  };
  /// Fills `cache` with the prompt's tokens.
  virtual Entered enter(const TextModel& model, std::span<const text::TokenId> tokens, nn::KvCache& cache) = 0;
  /// The reply is done, or given up: gets the cache back, with the reply's keys and values behind the prompt's.
  virtual void leave(nn::KvCache cache) {}
};

}  // namespace atelier::pipelines
