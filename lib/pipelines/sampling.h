#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/seed.h"
#include "text/tokenizer.h"

namespace atelier::pipelines {

/// Defaults are the contract's. Order of the filters as in transformers: penalties, temperature, top-k, top-p, min-p.
struct SamplingOptions {
  double temperature = 1;           ///< 0: greedy
  std::int64_t top_k = 64;          ///< 0: off; ties with the k-th stay, as in transformers
  double top_p = 0.95;              ///< 1: off
  double min_p = 0;                 ///< 0: off; relative to the most likely token
  double repeat_penalty = 1;        ///< of tokens among the last repeat_last_n of prompt and reply (Keskar et al. 2019)
  std::int64_t repeat_last_n = 64;  ///< -1: all, 0: none
  double presence_penalty = 0;      ///< once for every token that the reply already holds
  double frequency_penalty = 0;     ///< as often as the reply holds it
};

struct Candidate {
  text::TokenId id;
  double probability;
};

/// What has been said so far: penalties look at it.
struct History {
  std::span<const text::TokenId> prompt, reply;
};

/// The tokens that a constraint leaves: bit i % 64 of word i / 64 is token i. No words: all of them.
using AllowedTokens = std::span<const std::uint64_t>;

/// The distribution that is drawn from: what the filters leave of the `allowed` tokens, of which there must be one, most
/// likely first (ties by id), summing to 1. Greedy gives one candidate. `logits` are the model's own.
std::vector<Candidate> filtered_distribution(std::span<const float> logits, const History& history,
                                             const SamplingOptions& options, AllowedTokens allowed = {});

/// One draw.
text::TokenId sample(std::span<const float> logits, const History& history, const SamplingOptions& options,
                     base::Generator& generator, AllowedTokens allowed = {});

struct TokenLogprob {
  text::TokenId id = 0;
  double logprob = 0;
};

/// log-softmax of the model's own logits: of the chosen token, and of the `top` most likely ones.
struct LogprobEntry {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;
};

LogprobEntry logprob_entry(std::span<const float> logits, text::TokenId chosen, std::int64_t top);

}  // namespace atelier::pipelines
