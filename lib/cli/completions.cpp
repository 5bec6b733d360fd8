#include "cli/completions.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "cli/arguments.h"
#include "cli/validators.h"
#include "cli/values.h"

namespace atelier::cli {

namespace {

enum class Argument { none, words, file, folder, text };

Argument argument_of(const CLI::Option& option) {
  if (is_flag(option)) return Argument::none;
  if (!choices_of(option).empty()) return Argument::words;
  const std::string type = option.get_type_name();
  if (type.starts_with("DIR")) return Argument::folder;
  if (type.starts_with("FILE") || type.starts_with("PATH")) return Argument::file;
  return Argument::text;
}

std::vector<std::string> dashed_names(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

std::string function_name(const std::string& tool) {
  std::string name = "_" + tool;
  std::replace_if(name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}

std::string bash_case(const CLI::Option& option) {
  const std::string pattern = fmt::format("    {})", fmt::join(dashed_names(option), "|"));
  switch (argument_of(option)) {
    case Argument::none: return {};
    case Argument::words:
      return fmt::format("{} COMPREPLY=($(compgen -W \"{}\" -- \"$cur\")); return ;;\n", pattern,
                         fmt::join(choices_of(option), " "));
    case Argument::file: return pattern + " _FILES -f; return ;;\n";
    case Argument::folder: return pattern + " _FILES -d; return ;;\n";
    case Argument::text: return pattern + " COMPREPLY=(); return ;;\n";
  }
  return {};
}

// --device=cu reaches the function as the three words "--device", "=", "cu".
constexpr std::string_view kBash = R"(# bash completion for TOOL; load it with: source <(TOOL --completions bash)
FUNCTION_files() {
  local IFS=$'\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY=($(compgen "$1" -- "$cur"))
}
FUNCTION() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
  if [[ $cur == "=" ]]; then
    cur=""
  elif [[ $prev == "=" ]]; then
    prev=${COMP_WORDS[COMP_CWORD-2]}
  fi
COMMANDSBODY}
complete -F FUNCTION TOOL
)";

// What to offer where the flags of one parser count.
constexpr std::string_view kBashBody = R"(  case $prev in
CASES  esac
  if [[ ${COMP_WORDS[COMP_CWORD]} == "=" ]]; then return; fi
FILES  COMPREPLY=($(compgen -W "FLAGS" -- "$cur"))
)";

// A command is the first word that is the name of one; its flags may stand before it.
constexpr std::string_view kBashCommands = R"(  local word command=""
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in NAMES) command=$word; break ;; esac
  done
  case $command in
BRANCHES  esac
)";

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

/// Whether words that are no flags' values are files: positional arguments, and all but the first word of some flags.
bool takes_files(const CLI::App& app) {
  const auto options = app.get_options();
  return std::ranges::any_of(options, [](const CLI::Option* option) {
    return (option->get_positional() || takes_many_words(*option)) && argument_of(*option) != Argument::text;
  });
}

std::string bash_body(const CLI::App& app) {
  std::string cases;
  std::vector<std::string> words = command_names(app);
  for (const CLI::Option* option : app.get_options()) {
    const auto names = dashed_names(*option);
    words.insert(words.end(), names.begin(), names.end());
    if (!names.empty()) cases += bash_case(*option);
  }
  const std::string files = takes_files(app) ? "  if [[ $cur != -* ]]; then _FILES -f; return; fi\n" : "";
  std::string body = replace_all(std::string(kBashBody), "CASES", cases);
  body = replace_all(std::move(body), "FILES  ", files + "  ");
  return replace_all(std::move(body), "FLAGS", fmt::format("{}", fmt::join(words, " ")));
}

std::string bash_script(const CLI::App& app, const std::string& tool) {
  std::string branches;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    branches += fmt::format("  {})\n{}  return ;;\n", command->get_name(), bash_body(*command));
  std::string commands;
  if (!branches.empty()) {
    commands = replace_all(std::string(kBashCommands), "NAMES", fmt::format("{}", fmt::join(command_names(app), "|")));
    commands = replace_all(std::move(commands), "BRANCHES", branches);
  }
  const std::string function = function_name(tool);
  std::string script = replace_all(std::string(kBash), "COMMANDS", commands);
  script = replace_all(std::move(script), "BODY", bash_body(app));
  script = replace_all(std::move(script), "_FILES", function + "_files");
  return replace_all(replace_all(std::move(script), "FUNCTION", function), "TOOL", tool);
}

// In single quotes for the shell, with what _arguments treats specially escaped.
std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else if (c == '[' || c == ']' || c == ':' || c == '\\')
      out += {'\\', c};
    else
      out += c;
  }
  return out;
}

std::string zsh_argument(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const std::string label = zsh_text(type.substr(0, type.find(':')));
  switch (argument_of(option)) {
    case Argument::none: return {};
    case Argument::words:
      return fmt::format(":{}:({})", label, zsh_text(fmt::format("{}", fmt::join(choices_of(option), " "))));
    case Argument::file: return fmt::format(":{}:_files", label);
    case Argument::folder: return fmt::format(":{}:_files -/", label);
    case Argument::text: return fmt::format(":{}: ", label);
  }
  return {};
}

/// The specifications of one parser's flags and arguments for _arguments.
std::string zsh_flags(const CLI::App& app) {
  std::string lines;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : dashed_names(*option)) {
      const bool takes_value = argument_of(*option) != Argument::none;
      const std::string repeat = is_list(*option) ? "*" : "";
      const std::string joint = !takes_value ? "" : name.starts_with("--") ? "=" : "+";
      lines += fmt::format(" \\\n  '{}{}{}[{}]{}'", repeat, name, joint, zsh_text(option->get_description()),
                           zsh_argument(*option));
    }
  }
  if (takes_files(app)) lines += " \\\n  '*:file:_files'";
  return lines;
}

std::string zsh_script(const CLI::App& app, const std::string& tool) {
  std::string body = "_arguments" + zsh_flags(app);
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  if (!commands.empty()) {
    body = fmt::format(
        "local state line\ntypeset -A opt_args\n_arguments -C{} \\\n  '1:command:({})' \\\n  '*::argument:->rest'\n",
        zsh_flags(app), fmt::join(command_names(app), " "));
    body += "if [[ $state == rest ]]; then\ncase $line[1] in\n";
    for (const CLI::App* command : commands)
      body += fmt::format("({}) _arguments{} ;;\n", command->get_name(), zsh_flags(*command));
    body += "esac\nfi";
  }
  return fmt::format(
      "#compdef {0}\n# zsh completion for {0}; load it with: source <({0} --completions zsh)\n{1}() "
      "{{\n{2}\n}}\n"
      "compdef {1} {0}\n",
      tool, function_name(tool), body);
}

}  // namespace

std::string completion_script(const CLI::App& app, const std::string& tool, const std::string& shell) {
  if (shell == "bash") return bash_script(app, tool);
  if (shell == "zsh") return zsh_script(app, tool);
  throw base::Error(base::ExitCode::usage, fmt::format("--completions: \"{}\" is not one of bash, zsh", shell));
}

}  // namespace atelier::cli
