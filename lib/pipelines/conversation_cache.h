#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "pipelines/prefill.h"

namespace atelier::pipelines {

/// Keys and values of a conversation, kept from one reply to the next: of a prompt that begins with what is there, only the
/// rest goes through the network.
///
/// The tokens are computed in segments that end where a reply begins and where the turn behind it begins, and a cache is only
/// ever taken up again at such a border. So a conversation held turn by turn and the same one given as a whole are computed
/// alike, and a seed gives the same reply bit by bit. For that a reply's own keys and values are forgotten when it is
/// done, and its tokens, as the template writes them, are the first of what is new in the next prompt (or of settle()).
///
/// A prompt that lacks a stretch in the middle (the oldest turns have gone) takes that stretch out of the cache and keeps what
/// follows, where the caller allows it and the windows of the sliding layers still hold what they need.
///
/// Sliding layers forget, so rewinding needs copies of their windows: two are kept.
class ConversationCache final : public PromptState {
 public:
  Entered enter(const TextModel& model, std::span<const text::TokenId> tokens, nn::KvCache& cache) override;
  void leave(nn::KvCache cache) override;

  /// Computes a finished conversation's tokens, so that the next prompt need not. Looks at the stop flag.
  void settle(const TextModel& model, std::span<const text::TokenId> tokens);

  /// The next prompt may be made by taking a stretch out. Counts for one prompt.
  void allow_cut() { cut_allowed_ = true; }
  void clear();

  std::int64_t positions() const { return static_cast<std::int64_t>(tokens_.size()); }
  std::int64_t bytes() const;

 private:
  /// Copies of the sliding layers' windows; the other layers can be cut off anywhere.
  struct Windows {
    std::int64_t position = 0;
    std::vector<std::optional<nn::LayerCache>> layers;
  };

  void align(const TextModel& model, std::span<const text::TokenId> tokens);
  bool cut(const TextModel& model, std::span<const text::TokenId> tokens, std::int64_t common);
  void rewind(const TextModel& model, std::int64_t most);
  bool restore(std::int64_t position);
  void keep_windows();
  at::Tensor compute(const TextModel& model, std::span<const text::TokenId> tokens, bool want_logits);

  std::vector<text::TokenId> tokens_;  ///< what cache_ holds
  std::vector<std::int64_t> borders_;  ///< of segments, up to tokens_.size()
  nn::KvCache cache_;
  std::vector<Windows> windows_;
  bool cut_allowed_ = false;
};

}  // namespace atelier::pipelines
