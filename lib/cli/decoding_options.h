#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/common.h"
#include "pipelines/generation.h"

namespace atelier::cli {

/// Flags of how replies are computed, shared by gemma-generate and gemma-chat. On a CPU only --kv-cache changes what is said.
struct DecodingFlags {
  std::optional<std::int64_t> speculate;  ///< nothing: 5 with a draft model, else 0
  std::string draft;
  std::string kv_cache = "auto";
};

void add_decoding_flags(CLI::App& app, DecodingFlags& flags);

/// Error(usage) for bf16 where the model computes in another type.
nn::CacheFormat cache_format_of(const DecodingFlags& flags, const pipelines::TextModelFiles& files);

/// Memory for the logits of proposals, in steps of `batch` sequences.
std::uint64_t proposal_bytes(const DecodingFlags& flags, const pipelines::TextModelFiles& files, std::int64_t batch);

/// The draft model of a run, headers only, placed as the model; nothing without --draft. Noted for --manifest.
std::optional<pipelines::TextModelFiles> open_draft_files(const CommonOptions& options, const DecodingFlags& flags);

/// Loads it. Error(data) where its vocabulary is not the model's. Null without one.
std::shared_ptr<const pipelines::TextModel> load_draft(const std::optional<pipelines::TextModelFiles>& files,
                                                       const pipelines::TextModel& model);

/// For one request of `count` that share a prompt. `draft`: what load_draft gave.
pipelines::Speculation speculation_of(const DecodingFlags& flags, std::shared_ptr<const pipelines::TextModel> draft,
                                      std::int64_t count = 1);

}  // namespace atelier::cli
