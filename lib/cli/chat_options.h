#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "cli/generate_options.h"

namespace atelier::cli {

/// Everything that gemma-chat can be told (CLI.md, "gemma-chat"). A job of --jobs works on a copy.
struct ChatOptions {
  CommonOptions common;
  GenerationFlags generation;
  VariantFlags variants;
  DecodingFlags decoding;
  std::vector<std::string> adapters;  ///< DIR[:SCALE]
  std::string system, messages, load, history, quantize = "none";
  bool special = false, status = false, no_history = false;
  std::optional<std::int64_t> logprobs;
  std::optional<double> deadline;

  /// Whether the command line (not a session file, not a default) set a flag, by its long name.
  std::function<bool(const std::string&)> given = [](const std::string&) { return false; };
};

void define_chat_flags(CLI::App& app, ChatOptions& options);

/// What a job may not set.
JobRules chat_job_rules();

/// The `options` of a session file.
base::Json session_options(const GenerationFlags& flags);

/// Applies them, except those that `given` names. Error(data) naming an unknown or wrong one.
void apply_session_options(GenerationFlags& flags, const base::Json& options,
                           const std::function<bool(const std::string&)>& given, const std::string& what);

}  // namespace atelier::cli
