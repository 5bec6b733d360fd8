#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/json.h"
#include "pipelines/prompt_cache.h"
#include "pipelines/safety.h"
#include "pipelines/variant.h"
#include "text/languages.h"

namespace atelier::cli {

/// Flags of the specialised Gemmas, shared by gemma-generate and gemma-chat.
struct VariantFlags {
  std::string variant = "auto";
  std::string tools;      ///< a file, or the list itself as JSON
  std::string translate;  ///< FROM:TO
  std::string safety, safety_model;
};

void add_variant_flags(CLI::App& app, VariantFlags& flags);

/// Flags of --prompt-cache.
struct PromptCacheFlags {
  std::string folder, limit = "4G";
};

void add_prompt_cache_flags(CLI::App& app, PromptCacheFlags& flags);

/// The variant that was asked for, or that the folder is of.
pipelines::Variant variant_of(const VariantFlags& flags, const pipelines::TextModelFiles& files);

/// --tools, read and checked; null without. Error(no_input), Error(data).
base::Json read_tools(const VariantFlags& flags);

/// --translate; nothing without. Error(usage).
std::optional<text::TranslationPair> translation_of(const VariantFlags& flags);

/// One user's message that asks for a translation: TranslateGemma's own template gets the parts that it wants, every other
/// the whole prompt as text. `own_template`: the model's.
base::Json translation_message(const text::TranslationPair& pair, const std::string& text,
                               const text::ChatTemplate& own_template);

/// --safety with its model, loaded once. Rates what goes in and what comes out.
class SafetyGate {
 public:
  SafetyGate() = default;
  /// Loads nothing. Error(usage): --safety without --safety-model, an unknown policy.
  explicit SafetyGate(const VariantFlags& flags);
  bool active() const { return !policies_.empty(); }
  const std::string& model_path() const { return model_path_; }
  void load(const pipelines::Placement& placement);
  /// For a job with policies of its own, the same loaded model.
  SafetyGate with(const VariantFlags& flags) const;

  /// Ratings are added to `ratings`, where not null. Whether the text may pass.
  bool passes_prompt(const std::string& prompt, base::Json* ratings) const;
  bool passes_reply(const std::string& prompt, const std::string& reply, base::Json* ratings) const;

 private:
  std::vector<pipelines::SafetyPolicy> policies_;
  std::string model_path_;
  std::shared_ptr<const pipelines::SafetyRater> rater_;
};

/// "the prompt violates the safety policy harassment (probability 0.91, HIGH)": the first blocked rating.
std::string blocked_message(const base::Json& ratings);

}  // namespace atelier::cli
