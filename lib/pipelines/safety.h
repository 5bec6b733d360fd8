#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pipelines/text_model.h"

namespace atelier::pipelines {

/// A rule that ShieldGemma knows, and from which probability of a violation on it counts. Names and levels are those of Gemini's
/// safety settings.
enum class HarmLevel { negligible, low, medium, high };
std::string_view harm_level_name(HarmLevel level);  ///< NEGLIGIBLE, LOW, MEDIUM, HIGH

/// Gemini reports levels, ShieldGemma a probability; a quarter each: LOW from 0.25, MEDIUM from 0.5 (where ShieldGemma says
/// "Yes"), HIGH from 0.75.
HarmLevel harm_level(double probability);

struct SafetyPolicy {
  std::string name;       ///< dangerous_content, hate_speech, sexually_explicit, harassment
  HarmLevel blocks_from = HarmLevel::medium;
  bool never = false;     ///< BLOCK_NONE: rated, not blocked
};

/// `POLICY[:THRESHOLD][,...]`: names of policies, `all`, or Gemini's HARM_CATEGORY_...; thresholds low, medium (the default),
/// high, none, or Gemini's BLOCK_LOW_AND_ABOVE, BLOCK_MEDIUM_AND_ABOVE, BLOCK_ONLY_HIGH, BLOCK_NONE. Error(usage) naming
/// the nearest.
std::vector<SafetyPolicy> parse_safety_policies(const std::string& text);

struct SafetyRating {
  std::string policy;
  std::string subject;  ///< prompt or reply
  double probability = 0;
  HarmLevel level = HarmLevel::negligible;
  bool blocked = false;
};

/// A ShieldGemma: rates a user's prompt, or a reply to it, against one policy at a time.
/// Reference: the model card of google/shieldgemma-2b (arXiv:2407.21772).
class SafetyRater {
 public:
  /// Error(data) where the model's vocabulary has no pieces `Yes` and `No`.
  explicit SafetyRater(std::shared_ptr<const TextModel> model);

  std::vector<SafetyRating> rate_prompt(const std::string& prompt, const std::vector<SafetyPolicy>& policies) const;
  std::vector<SafetyRating> rate_reply(const std::string& prompt, const std::string& reply,
                                       const std::vector<SafetyPolicy>& policies) const;

  /// What the model is asked; `reply` null: about the prompt alone. The texts cannot become control tokens.
  static std::vector<text::Segment> question(const std::string& policy, const std::string& prompt, const std::string* reply);

 private:
  SafetyRating rate(const SafetyPolicy& policy, const std::string& prompt, const std::string* reply) const;

  std::shared_ptr<const TextModel> model_;
  text::TokenId yes_ = 0, no_ = 0;
};

bool any_blocked(const std::vector<SafetyRating>& ratings);

}  // namespace atelier::pipelines
