#include "pipelines/safety.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "pipelines/prefill.h"

namespace atelier::pipelines {
namespace {

using base::Error;
using base::ExitCode;
using text::Segment;

/// The policies in the words of ShieldGemma's model card, once about a question and once about a reply.
struct PolicyText {
  const char* name;
  const char* gemini;
  const char* title;
  const char* forbidden;  ///< what a prompt must not seek and a reply must not hold
};

constexpr PolicyText kPolicies[] = {
    {"dangerous_content", "harm_category_dangerous_content", "No Dangerous Content",
     "content that harms oneself and/or others (e.g., accessing or building firearms and explosive devices, promotion of "
     "terrorism, instructions for suicide)."},
    {"hate_speech", "harm_category_hate_speech", "No Hate Speech",
     "content that targets identity and/or protected attributes (e.g., racial slurs, promotion of discrimination, calls to "
     "violence against protected groups)."},
    {"sexually_explicit", "harm_category_sexually_explicit", "No Sexually Explicit Information",
     "content that contains references to sexual acts, or other lewd content (e.g., sexually graphic descriptions, content "
     "aiming at causing arousal)."},
    {"harassment", "harm_category_harassment", "No Harassment",
     "content that is malicious, intimidating, bullying, or abusive content targeting another individual (e.g., physical "
     "threats, denial of tragic events, disparaging victims of violence)."},
};

/// Other spellings.
struct Alias {
  const char *alias, *name;
};
constexpr Alias kPolicyAliases[] = {{"dangerous", "dangerous_content"},
                                    {"hate", "hate_speech"},
                                    {"sexual", "sexually_explicit"},
                                    {"sexually_explicit_information", "sexually_explicit"},
                                    {"sexual_content", "sexually_explicit"}};

const PolicyText& policy_text(const std::string& name) {
  return *std::find_if(std::begin(kPolicies), std::end(kPolicies), [&](const PolicyText& p) { return name == p.name; });
}

std::string normal(std::string_view text) {
  std::string word;
  for (const char c : text)
    if (c != ' ' || !word.empty()) word += c == '-' || c == ' ' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  while (word.ends_with('_')) word.pop_back();
  return word;
}

[[noreturn]] void unknown(const char* kind, std::string_view word, const std::vector<std::string>& known) {
  const std::string near = base::nearest(normal(word), known);
  throw Error(ExitCode::usage, fmt::format("--safety: unknown {} {}", kind, base::in_quotes(word)),
              near.empty() ? fmt::format("known are {}", fmt::join(known, ", ")) : fmt::format("did you mean \"{}\"?", near));
}

std::vector<std::string> policies_called(std::string_view word) {
  const std::string name = normal(word);
  std::vector<std::string> all;
  for (const PolicyText& p : kPolicies) {
    if (name == p.name || name == p.gemini) return {p.name};
    all.emplace_back(p.name);
  }
  for (const Alias& a : kPolicyAliases)
    if (name == a.alias) return {a.name};
  if (name == "all") return all;
  all.emplace_back("all");
  unknown("policy", word, all);
}

SafetyPolicy with_threshold(std::string name, std::string_view word) {
  const std::string level = normal(word);
  if (level == "low" || level == "block_low_and_above") return {std::move(name), HarmLevel::low};
  if (level == "medium" || level == "block_medium_and_above") return {std::move(name), HarmLevel::medium};
  if (level == "high" || level == "block_only_high") return {std::move(name), HarmLevel::high};
  if (level == "none" || level == "block_none" || level == "off") return {std::move(name), HarmLevel::high, true};
  unknown("threshold", word, {"low", "medium", "high", "none"});
}

}  // namespace

std::string_view harm_level_name(HarmLevel level) {
  constexpr std::string_view names[] = {"NEGLIGIBLE", "LOW", "MEDIUM", "HIGH"};
  return names[static_cast<int>(level)];
}

HarmLevel harm_level(double probability) {
  return probability >= 0.75  ? HarmLevel::high
         : probability >= 0.5 ? HarmLevel::medium
         : probability >= 0.25 ? HarmLevel::low
                               : HarmLevel::negligible;
}

std::vector<SafetyPolicy> parse_safety_policies(const std::string& text) {
  std::vector<SafetyPolicy> policies;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string_view item = std::string_view(text).substr(at, end - at);
    const std::size_t colon = item.find(':');
    const std::string_view threshold = colon == std::string_view::npos ? "medium" : item.substr(colon + 1);
    for (const std::string& name : policies_called(item.substr(0, colon))) {
      SafetyPolicy policy = with_threshold(name, threshold);
      const auto earlier =
          std::find_if(policies.begin(), policies.end(), [&](const SafetyPolicy& p) { return p.name == name; });
      if (earlier == policies.end())
        policies.push_back(std::move(policy));
      else
        *earlier = std::move(policy);  // `all:low,harassment:high`: the later one is the more particular
    }
    at = end + 1;
  }
  return policies;
}

SafetyRater::SafetyRater(std::shared_ptr<const TextModel> model) : model_(std::move(model)) {
  const auto yes = model_->tokenizer->find("Yes"), no = model_->tokenizer->find("No");
  if (!yes || !no)
    throw Error(ExitCode::data, fmt::format("{}: the vocabulary has no pieces Yes and No to score with", model_->folder),
                "--safety-model wants a ShieldGemma");
  yes_ = *yes;
  no_ = *no;
}

std::vector<Segment> SafetyRater::question(const std::string& policy, const std::string& prompt, const std::string* reply) {
  const PolicyText& p = policy_text(policy);
  const auto trusted = [](std::string text) { return Segment{std::move(text), true}; };
  std::vector<Segment> q;
  q.push_back(trusted(reply == nullptr
                          ? "You are a policy expert trying to help determine whether a user prompt is in violation of the "
                            "defined safety policies.\n\n<start_of_turn>\nHuman Question: "
                          : "You are a policy expert trying to help determine whether an AI response to prompt is in violation "
                            "of the defined safety policies.\n\n<start_of_turn>\nHuman Question: "));
  q.push_back({prompt, false});
  if (reply != nullptr) {
    q.push_back(trusted("\n<end_of_turn>\n\n<start_of_turn>\nChatbot Response: "));
    q.push_back({*reply, false});
  }
  const std::string rule = reply == nullptr ? fmt::format("The prompt shall not contain or seek generation of {}", p.forbidden)
                                            : fmt::format("The chatbot shall not generate {}", p.forbidden);
  q.push_back(trusted(fmt::format(
      "\n<end_of_turn>\n\nOur safety principle is defined in the below:\n\n* \"{}\": {}\n\n===\n\nDoes the {} violate the "
      "above principle? Your answer must start with 'Yes' or 'No'. And then walk through step by step to be sure we answer "
      "correctly.\n\n",
      p.title, rule, reply == nullptr ? "human question" : "Chatbot Response")));
  return q;
}

SafetyRating SafetyRater::rate(const SafetyPolicy& policy, const std::string& prompt, const std::string* reply) const {
  const c10::InferenceMode inference;
  std::vector<text::TokenId> ids = {model_->bos};
  const auto rest = model_->tokenizer->encode(question(policy.name, prompt, reply));
  ids.insert(ids.end(), rest.begin(), rest.end());
  if (static_cast<std::int64_t>(ids.size()) > model_->context)
    throw Error(ExitCode::data, fmt::format("the text has {} tokens with the safety policy, the safety model's context {}",
                                            ids.size(), model_->context));
  for (const auto id : ids)
    if (id >= model_->network->config().vocab_size)
      throw Error(ExitCode::data, "the safety model's tokenizer has more pieces than its vocabulary");
  auto cache = model_->network->new_cache();
  const at::Tensor logits = prefill_logits(*model_, ids, cache);  // (1, vocab)
  const float* row = logits.const_data_ptr<float>();
  const double difference = static_cast<double>(row[no_]) - row[yes_];
  if (!std::isfinite(difference)) throw Error(ExitCode::condition, "the safety model's logits are not finite: damaged weights?");
  SafetyRating rating;
  rating.policy = policy.name;
  rating.subject = reply == nullptr ? "prompt" : "reply";
  rating.probability = 1 / (1 + std::exp(difference));
  rating.level = harm_level(rating.probability);
  rating.blocked = !policy.never && rating.level >= policy.blocks_from;
  return rating;
}

std::vector<SafetyRating> SafetyRater::rate_prompt(const std::string& prompt,
                                                   const std::vector<SafetyPolicy>& policies) const {
  std::vector<SafetyRating> ratings;
  for (const SafetyPolicy& policy : policies) ratings.push_back(rate(policy, prompt, nullptr));
  return ratings;
}

std::vector<SafetyRating> SafetyRater::rate_reply(const std::string& prompt, const std::string& reply,
                                                  const std::vector<SafetyPolicy>& policies) const {
  std::vector<SafetyRating> ratings;
  for (const SafetyPolicy& policy : policies) ratings.push_back(rate(policy, prompt, &reply));
  return ratings;
}

bool any_blocked(const std::vector<SafetyRating>& ratings) {
  return std::any_of(ratings.begin(), ratings.end(), [](const SafetyRating& r) { return r.blocked; });
}

}  // namespace atelier::pipelines
