#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/common.h"
#include "cli/constraint_options.h"
#include "cli/decoding_options.h"
#include "cli/jobs.h"
#include "cli/variant_options.h"
#include "pipelines/prompt.h"
#include "pipelines/sampling.h"

namespace atelier::cli {

/// How a reply is drawn: shared by the tools that generate text.
struct GenerationFlags {
  std::int64_t max_tokens = 256;
  pipelines::SamplingOptions sampling;
  std::optional<double> temperature;  ///< nothing: 1, or what the variant has
  std::vector<std::string> stop;
  std::string truncate;  ///< "", head, middle or tail
};

void add_generation_flags(CLI::App& app, GenerationFlags& flags);

/// How replies are drawn: MedGemma is greedy unless a temperature was asked for.
pipelines::SamplingOptions sampling_of(const GenerationFlags& flags, pipelines::Variant variant);

pipelines::Truncation truncation_of(const GenerationFlags& flags);

/// Everything that gemma-generate can be told (CLI.md, "gemma-generate"). A job of --jobs works on a copy.
struct GenerateOptions {
  CommonOptions common;
  GenerationFlags generation;
  ConstraintFlags constraint;
  VariantFlags variants;
  PromptCacheFlags prompt_cache;
  DecodingFlags decoding;
  std::vector<std::string> adapters;  ///< DIR[:SCALE]
  std::optional<std::string> prompt;
  std::string file, system, output, quantize = "none";
  bool chat = false, raw = false, special = false, no_stream = false, score = false;
  std::int64_t count = 1, batch_size = 8;
  std::optional<double> deadline;
  std::optional<std::int64_t> logprobs;
};

void define_generate_flags(CLI::App& app, GenerateOptions& options);

/// What a job may not set.
JobRules generate_job_rules();

pipelines::PromptOptions prompt_options(const GenerateOptions& options);

}  // namespace atelier::cli
