#include "text/chat_template.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "io/file_system.h"
#include "text/builtin_templates.h"
#include "text/jinja/template.h"

namespace atelier::text {
namespace {

namespace fs = std::filesystem;
using base::Json;

constexpr std::size_t kMaxTemplateBytes = 4u << 20;
constexpr std::uint64_t kMaxConfigBytes = 64u << 20;

bool names_role(std::string_view source, std::string_view role) {
  return source.find(fmt::format("'{}'", role)) != std::string_view::npos ||
         source.find(fmt::format("\"{}\"", role)) != std::string_view::npos;
}

class JinjaChatTemplate final : public ChatTemplate {
 public:
  JinjaChatTemplate(std::string_view source, std::string_view name)
      : source_(source),
        template_(jinja::Template::parse(source, std::string(name))),
        model_role_(names_role(source, "model") && !names_role(source, "assistant") ? "model" : "assistant") {}

  std::vector<Segment> render(const Json& messages, const Variables& variables) const override {
    check(messages);
    const auto bind = [&]() -> jinja::Template::Variables {
      using jinja::Value;
      jinja::Template::Variables bound = {{"messages", messages_value(messages)},
                                          {"tools", Value::from_json(variables.tools, false)},
                                          {"documents", Value::none()},
                                          {"add_generation_prompt", Value::boolean(variables.add_generation_prompt)},
                                          {"bos_token", Value::text(variables.bos_token, true)},
                                          {"eos_token", Value::text(variables.eos_token, true)}};
      if (variables.extra.is_object()) {
        for (const auto& [key, value] : variables.extra.items())
          bound.emplace_back(key, Value::from_json(value, false));
      }
      return bound;
    };
    return template_->render(bind).segments();
  }

  bool mentions(std::string_view word) const override { return source_.find(word) != std::string::npos; }

 private:
  void check(const Json& messages) const {
    if (!messages.is_array()) throw base::Error(base::ExitCode::data, "messages must be a list");
    for (const auto& message : messages) {
      if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
        throw base::Error(base::ExitCode::data, "every message must be an object with a role");
      }
    }
  }

  /// Templates know the model's role as `assistant` or as `model`; sessions may say either.
  jinja::Value messages_value(const Json& messages) const {
    std::vector<jinja::Value> converted;
    for (const auto& message : messages) {
      jinja::Dict fields;
      for (const auto& [key, value] : message.items()) {
        const bool model = key == "role" && (value == "model" || value == "assistant");
        fields.set(jinja::Value::text(key, false),
                   model ? jinja::Value::text(model_role_, false) : jinja::Value::from_json(value, false));
      }
      converted.push_back(jinja::Value::dict(std::move(fields)));
    }
    return jinja::Value::list(std::move(converted));
  }

  std::string source_;
  std::shared_ptr<const jinja::Template> template_;
  std::string model_role_;
};

/// A folder's template together with the one that it has for tools, if any.
class ToolAwareTemplate final : public ChatTemplate {
 public:
  ToolAwareTemplate(std::shared_ptr<const ChatTemplate> plain, std::shared_ptr<const ChatTemplate> with_tools)
      : plain_(std::move(plain)), with_tools_(std::move(with_tools)) {}

  std::vector<Segment> render(const Json& messages, const Variables& variables) const override {
    const bool tools = variables.tools.is_array() && !variables.tools.empty();
    return (tools ? with_tools_ : plain_)->render(messages, variables);
  }

  bool mentions(std::string_view word) const override { return plain_->mentions(word) || with_tools_->mentions(word); }

 private:
  std::shared_ptr<const ChatTemplate> plain_, with_tools_;
};

/// A template as JSON files hold it: a string, or a list of {name, template}.
std::shared_ptr<const ChatTemplate> from_json(const Json& value, const std::string& what) {
  if (value.is_string()) return ChatTemplate::parse(value.get_ref<const std::string&>(), what);
  if (!value.is_array())
    throw base::Error(base::ExitCode::data, what + ": must be a string or a list of named templates");
  std::shared_ptr<const ChatTemplate> plain, with_tools;
  for (const auto& entry : value) {
    const bool good = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                      entry.contains("template") && entry["template"].is_string();
    if (!good) throw base::Error(base::ExitCode::data, what + ": an entry has no name or no template");
    const std::string name = entry["name"].get<std::string>();
    if (name != "default" && name != "tool_use") continue;
    (name == "default" ? plain : with_tools) =
        ChatTemplate::parse(entry["template"].get_ref<const std::string&>(), fmt::format("{} ({})", what, name));
  }
  if (!plain) throw base::Error(base::ExitCode::data, what + ": no template is named \"default\"");
  return with_tools ? std::make_shared<ToolAwareTemplate>(plain, with_tools) : plain;
}

std::shared_ptr<const ChatTemplate> from_config(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return nullptr;
  const Json config = base::read_json_file(path.string(), kMaxConfigBytes);
  const std::string file = path.filename().string();
  if (!config.is_object()) throw base::Error(base::ExitCode::data, file + ": expected a JSON object");
  if (!config.contains("chat_template") || config["chat_template"].is_null()) return nullptr;
  return from_json(config["chat_template"], file + ": chat_template");
}

}  // namespace

std::shared_ptr<const ChatTemplate> ChatTemplate::parse(std::string_view source, std::string_view name) {
  return std::make_shared<JinjaChatTemplate>(source, name);
}

std::shared_ptr<const ChatTemplate> ChatTemplate::from_folder(const std::string& folder) {
  const fs::path base_path(folder);
  const fs::path jinja = base_path / "chat_template.jinja";
  std::error_code ignored;
  if (fs::exists(jinja, ignored)) return parse(io::read_file(jinja.string(), kMaxTemplateBytes), "chat_template.jinja");
  if (auto found = from_config(base_path / "tokenizer_config.json")) return found;
  return from_config(base_path / "chat_template.json");
}

std::shared_ptr<const ChatTemplate> ChatTemplate::builtin(std::string_view family) {
  const auto all = builtin_templates();
  const auto found =
      std::find_if(all.begin(), all.end(), [family](const BuiltinTemplate& t) { return t.name == family; });
  if (found == all.end()) {
    throw base::Error(base::ExitCode::internal, fmt::format("no built-in chat template is named \"{}\"", family));
  }
  return parse(found->source, fmt::format("{}.jinja", family));
}

}  // namespace atelier::text
