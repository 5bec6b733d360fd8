#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "pipelines/prefill.h"
#include "pipelines/sampling.h"
#include "pipelines/speculation.h"
#include "pipelines/text_model.h"
#include "text/constraint/constraint.h"

namespace atelier::pipelines {

/// A prompt shared by several requests (candidates of one prompt): computed by the first, through `inner` where that is not
/// null, and forked by the others.
std::shared_ptr<PromptState> share_prompt(std::int64_t users, std::shared_ptr<PromptState> inner = nullptr);

struct GenerationRequest {
  std::vector<text::TokenId> prompt;  ///< with BOS, not empty
  std::int64_t max_tokens = 256;      ///< cut to what the context leaves
  SamplingOptions sampling;
  std::uint64_t seed = 0;
  std::vector<std::string> stop_texts;  ///< not empty strings
  std::vector<text::TokenId> stop_ids;
  std::shared_ptr<text::constraint::Constraint> constraint;  ///< or null; of the model's vocabulary, and require_room holds
  std::optional<std::int64_t> logprobs;           ///< K: also the K most likely tokens of every position
  std::optional<double> deadline_seconds;         ///< from the start of this request's prompt; looked at between its chunks too
  std::shared_ptr<PromptState> shared;            ///< or null
  Speculation speculation;                        ///< on a CPU it changes no byte of a result
  std::function<void(std::string_view)> on_text;  ///< whole UTF-8 characters as they become certain; may be empty
  std::size_t tag = 0;                            ///< for the caller
};

enum class FinishReason { stop, length, stop_text, deadline, safety };
std::string_view finish_reason_name(FinishReason reason);

struct GenerationResult {
  std::vector<text::TokenId> token_ids;  ///< without the stop token, and without what follows a stop text
  std::string text;
  FinishReason finish_reason = FinishReason::length;
  /// Why this is no result: logits that are not finite; a text that does not conform to the constraint, because of the
  /// deadline or because it grew too complex.
  std::optional<base::Error> failure;
  std::vector<LogprobEntry> logprobs;  ///< one per token_ids entry, where asked for
  std::int64_t prompt_tokens = 0, decoded_tokens = 0;
  std::int64_t prefilled_tokens = 0;  ///< of the prompt, those that went through the network; the rest came from a cache
  std::int64_t proposed_tokens = 0, accepted_tokens = 0;  ///< of speculation
  double prefill_seconds = 0, decode_seconds = 0;
  double constraint_seconds = 0;  ///< of decode_seconds: finding out which tokens the constraint allows
};

/// Continues prompts, several at a time. Rows of a batch do not influence one another: a result is the same bytes whatever
/// else is computed beside it.
///
/// `next` is asked for another request whenever one of the `batch_size` (1 to 64) places is free, and returns nothing at the
/// end; `done` gets the results as they finish, in no particular order. Looks at the stop flag at every step.
void generate(const TextModel& model, std::int64_t batch_size,
              const std::function<std::optional<GenerationRequest>()>& next,
              const std::function<void(const GenerationRequest&, GenerationResult)>& done);

/// Error(condition) where the text that the request's constraint asks for needs more tokens than there is room for.
void require_room(const TextModel& model, const GenerationRequest& request);

GenerationResult generate_one(const TextModel& model, const GenerationRequest& request);

/// Log-probabilities of a given text: one entry for each token after the first.
struct ScoreResult {
  std::vector<LogprobEntry> logprobs;
  double perplexity = 0;  ///< exp of the mean negative log-probability
  double seconds = 0;
};
/// Error(condition) where logits are not finite.
ScoreResult score(const TextModel& model, const std::vector<text::TokenId>& tokens, std::int64_t top);

}  // namespace atelier::pipelines
