#include "cli/chat_options.h"

#include <algorithm>

#include <fmt/format.h>

#include "cli/line_editor.h"
#include "cli/text_run.h"
#include "cli/validators.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

void add_conversation_flags(CLI::App& app, ChatOptions& o) {
  const std::string group = "Conversation";
  app.add_option("--messages", o.messages,
                 "Answer this history once and exit: a JSON file (- is stdin), or the JSON itself, with a list of messages "
                 "or an object with \"messages\"; roles user, model (assistant), system, tool")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--load", o.load, "Go on with a session file, as /save writes it")->type_name("FILE")->group(group);
  app.add_option("--system", o.system, "System text; for models that know none it opens the user's turn")
      ->type_name("TEXT")
      ->group(group);
  app.add_flag("--special", o.special, "Let control tokens spelled in the messages be control tokens")->group(group);
  app.add_flag("--status", o.status, "After each reply a line on stderr with tokens and speed")->group(group);
  app.add_option("--history", o.history,
                 "Where typed lines are kept (default $XDG_STATE_HOME/atelier/chat_history). Line editing: " +
                     line_editor_name())
      ->type_name("FILE")
      ->group(group);
  app.add_flag("--no-history", o.no_history, "Keep no typed lines")->group(group);
  app.add_option("--logprobs", o.logprobs,
                 "Log-probabilities of each token and of the K most likely ones, before any filter (with --json)")
      ->type_name("K")
      ->check(whole_in_range(0, 1000))
      ->group(group);
  app.add_option("--deadline", o.deadline, "End each reply after so many seconds and keep what it has")
      ->check(in_range(0, 1e9))
      ->type_name("SECONDS")
      ->group(group);
}

}  // namespace

void define_chat_flags(CLI::App& app, ChatOptions& o) {
  add_common_options(app, o.common,
                     "gemma-chat --system \"Answer in one sentence.\"\n"
                     "  gemma-chat --messages session.json --json --seed 1\n"
                     "  printf 'Hello!\\nWho are you?\\n' | gemma-chat\n\n"
                     "On a terminal: /help lists the commands; a line that ends in \\ goes on, and \"\"\" begins and ends\n"
                     "  several; Ctrl-C stops the reply, Ctrl-D leaves.\n"
                     "  From a pipe each line is one turn, blank ones do not count.");
  add_adapter_flag(app, o.adapters);
  add_quantize_flag(app, o.quantize);
  add_conversation_flags(app, o);
  add_generation_flags(app, o.generation);
  add_variant_flags(app, o.variants);
  add_decoding_flags(app, o.decoding);
}

JobRules chat_job_rules() {
  return {.whole_run = {"adapter", "quantize", "load", "history", "no-history", "status", "variant", "safety-model", "draft",
                        "kv-cache"},
          .json = {"tools", "messages"}};
}

Json session_options(const GenerationFlags& f) {
  const auto& s = f.sampling;
  Json options = {{"max_tokens", f.max_tokens}};
  if (f.temperature) options["temperature"] = *f.temperature;
  options["top_k"] = s.top_k;
  options["top_p"] = s.top_p;
  options["min_p"] = s.min_p;
  options["repeat_penalty"] = s.repeat_penalty;
  options["repeat_last_n"] = s.repeat_last_n;
  options["presence_penalty"] = s.presence_penalty;
  options["frequency_penalty"] = s.frequency_penalty;
  options["stop"] = f.stop;
  if (!f.truncate.empty()) options["truncate"] = f.truncate;
  return options;
}

void apply_session_options(GenerationFlags& flags, const Json& options,
                           const std::function<bool(const std::string&)>& given, const std::string& what) {
  Json wanted = Json::object();
  for (const auto& [key, value] : options.items()) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', '-');
    if (!given(name)) wanted[key] = value;
  }
  GenerationFlags changed = flags;
  try {
    CLI::App app;
    add_generation_flags(app, changed);
    harden(app);
    apply_job(app, wanted);
  } catch (const Error& error) {
    throw Error(ExitCode::data, fmt::format("{}: options: {}", what, error.what()), error.hint());
  }
  flags = std::move(changed);
}

}  // namespace atelier::cli
