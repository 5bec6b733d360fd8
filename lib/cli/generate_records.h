#pragma once

#include "base/json.h"
#include "pipelines/generation.h"

namespace atelier::cli {

/// The contract's record of one result. `id` null: the run had no jobs. `extras`, an object or null: keys that stand before
/// "truncated".
base::Json generation_record(const pipelines::TextModel& model, const base::Json& id, std::size_t index,
                             const pipelines::GenerationRequest& request, const pipelines::GenerationResult& result,
                             std::int64_t truncated, const base::Json& extras = nullptr);

/// The record of --score: token_ids with BOS, one logprobs entry for each token after the first, perplexity.
base::Json score_record(const pipelines::TextModel& model, const base::Json& id,
                        const std::vector<text::TokenId>& tokens, const pipelines::ScoreResult& result,
                        std::int64_t truncated);

}  // namespace atelier::cli
