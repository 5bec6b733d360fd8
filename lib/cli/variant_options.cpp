#include "cli/variant_options.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "cli/validators.h"
#include "io/file_system.h"
#include "text/function_calls.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

constexpr std::size_t most_tool_bytes = 16u << 20;

bool pass(const std::vector<pipelines::SafetyRating>& found, Json* ratings) {
  if (ratings != nullptr) {
    for (const auto& r : found)
      ratings->push_back({{"subject", r.subject},
                          {"policy", r.policy},
                          {"probability", r.probability},
                          {"level", pipelines::harm_level_name(r.level)},
                          {"blocked", r.blocked}});
  }
  return !pipelines::any_blocked(found);
}

}  // namespace

void add_variant_flags(CLI::App& app, VariantFlags& f) {
  const std::string group = "Variants";
  std::vector<std::string> names = pipelines::variant_names();
  names.insert(names.begin(), "auto");
  app.add_option("--variant", f.variant, "How the model is asked; auto looks at its folder's name and template")
      ->check(one_of(names))
      ->capture_default_str()
      ->group(group);
  app.add_option("--tools", f.tools,
                 "Functions that the model may call: a file with a list as OpenAI writes it; the record holds the calls")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--translate", f.translate,
                 "Translate the prompt, as TranslateGemma is asked: --translate de:en (en_US, en-GB, zh-Hans, German)")
      ->type_name("FROM:TO")
      ->group(group);
  app.add_option("--safety", f.safety,
                 "Rate prompt and reply with --safety-model: dangerous_content, hate_speech, sexually_explicit, "
                 "harassment or all, each perhaps with :low, :medium (the default), :high or :none, from which level on it "
                 "blocks; several with commas")
      ->type_name("POLICY[:LEVEL],...")
      ->group(group);
  app.add_option("--safety-model", f.safety_model, "The ShieldGemma that rates")->type_name("PATH")->group(group);
}

void add_prompt_cache_flags(CLI::App& app, PromptCacheFlags& f) {
  const std::string group = "Prompt cache";
  app.add_option("--prompt-cache", f.folder,
                 "Keep keys and values of prompts in this folder: a beginning that was seen before is not computed again")
      ->type_name("DIR")
      ->group(group);
  app.add_option("--prompt-cache-size", f.limit, "What the folder may hold; the entries longest unused go")
      ->type_name("SIZE")
      ->check(byte_size())
      ->capture_default_str()
      ->group(group);
}

pipelines::Variant variant_of(const VariantFlags& flags, const pipelines::TextModelFiles& files) {
  if (flags.variant == "auto") return pipelines::find_variant(files);
  const auto names = pipelines::variant_names();
  return static_cast<pipelines::Variant>(std::find(names.begin(), names.end(), flags.variant) - names.begin());
}

Json read_tools(const VariantFlags& flags) {
  if (flags.tools.empty()) return nullptr;
  const std::size_t first = flags.tools.find_first_not_of(" \t\n");
  if (first != std::string::npos && (flags.tools[first] == '[' || flags.tools[first] == '{'))
    return text::check_tools(base::parse_json(flags.tools, "tools"), "tools");
  return text::check_tools(base::read_json_file(flags.tools, most_tool_bytes), flags.tools);
}

std::optional<text::TranslationPair> translation_of(const VariantFlags& flags) {
  if (flags.translate.empty()) return std::nullopt;
  return text::parse_translation_pair(flags.translate);
}

Json translation_message(const text::TranslationPair& pair, const std::string& text,
                         const text::ChatTemplate& own_template) {
  if (!own_template.mentions("source_lang_code"))
    return {{"role", "user"}, {"content", text::translation_prompt(pair, text)}};
  return {{"role", "user"},
          {"content", Json::array({{{"type", "text"},
                                    {"source_lang_code", pair.source.code},
                                    {"target_lang_code", pair.target.code},
                                    {"text", text}}})}};
}

SafetyGate::SafetyGate(const VariantFlags& flags) : model_path_(flags.safety_model) {
  if (flags.safety.empty()) return;
  if (flags.safety_model.empty()) throw Error(ExitCode::usage, "--safety needs --safety-model", "a ShieldGemma's folder");
  policies_ = pipelines::parse_safety_policies(flags.safety);
}

void SafetyGate::load(const pipelines::Placement& placement) {
  if (model_path_.empty() || rater_) return;
  rater_ = std::make_shared<pipelines::SafetyRater>(
      pipelines::TextModel::load(pipelines::TextModelFiles::open(model_path_, placement)));
}

SafetyGate SafetyGate::with(const VariantFlags& flags) const {
  SafetyGate gate = *this;
  gate.policies_ = flags.safety.empty() ? std::vector<pipelines::SafetyPolicy>()
                                        : pipelines::parse_safety_policies(flags.safety);
  if (gate.active() && !rater_) throw Error(ExitCode::usage, "--safety in a job needs --safety-model on the command line");
  return gate;
}

bool SafetyGate::passes_prompt(const std::string& prompt, Json* ratings) const {
  return !active() || pass(rater_->rate_prompt(prompt, policies_), ratings);
}

bool SafetyGate::passes_reply(const std::string& prompt, const std::string& reply, Json* ratings) const {
  return !active() || pass(rater_->rate_reply(prompt, reply, policies_), ratings);
}

std::string blocked_message(const Json& ratings) {
  for (const Json& r : ratings)
    if (r["blocked"] == true)
      return fmt::format("the {} violates the safety policy {} (probability {:.2f}, {})", r["subject"].get<std::string>(),
                         r["policy"].get<std::string>(), r["probability"].get<double>(), r["level"].get<std::string>());
  return {};
}

}  // namespace atelier::cli
