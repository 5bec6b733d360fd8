#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace atelier::text {

/// A chat template in Jinja, as checkpoints carry it. Rendering keeps apart what the template says (trusted) from
/// what the messages say (untrusted), character by character, through every filter and operator.
class ChatTemplate {
 public:
  /// The folder's own: `chat_template.jinja`, else `chat_template` of tokenizer_config.json (a string, or a list of
  /// {name, template} of which "default" is taken, or `tool_use` where `tools` are given), else `chat_template.json`.
  /// Nothing where the folder has none. Error(data): it cannot be parsed.
  static std::shared_ptr<const ChatTemplate> from_folder(const std::string& folder);
  /// One of the project's own (lib/text/templates/NAME.jinja, compiled in): "gemma", "gemma2", "gemma3",
  /// "functiongemma".
  static std::shared_ptr<const ChatTemplate> builtin(std::string_view family);
  static std::shared_ptr<const ChatTemplate> parse(std::string_view source, std::string_view name);
  virtual ~ChatTemplate() = default;

  struct Variables {
    std::string bos_token = "<bos>";
    std::string eos_token = "<eos>";
    bool add_generation_prompt = true;
    base::Json tools;  ///< null: `none` in the template, as transformers passes it
    base::Json extra;  ///< further variables, an object or null
  };

  /// `messages`: [{"role","content", ...}]. Values of messages, tools and extra are untrusted. Role `assistant` and
  /// `model` are passed as the template expects (Gemma's own accept both). Adjacent segments differ in trust.
  /// Error(data) where the template calls raise_exception (roles that do not alternate, a system role that the model
  /// has not), with the template's own words; where it fails or uses what is not supported, with its name and line;
  /// and where it passes the limits of steps, text and depth (jinja::Limits).
  virtual std::vector<Segment> render(const base::Json& messages, const Variables& variables) const = 0;

  /// Whether the template's source has this word: which of its variables a template can make use of.
  virtual bool mentions(std::string_view word) const = 0;
};

}  // namespace atelier::text
