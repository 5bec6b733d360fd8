#include "cli/help.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/arguments.h"
#include "cli/validators.h"
#include "cli/values.h"

namespace atelier::cli {

namespace {

constexpr std::size_t kWidth = 100, kColumn = 32;

constexpr std::string_view kExitCodes = R"(Exit codes:
    0  everything asked for was done
    3  a batch finished, and some of its items failed
    4  a condition that you set does not hold
   64  wrong flag or value
   65  malformed model, data, image or JSON; prompt too long
   66  input missing or unreadable
   69  device or feature not available
   70  internal error
   71  out of memory, or over --max-ram
   73  output cannot be created
   74  a read or write failed
   75  stopped after saving a state that the same command resumes
  130  stopped by SIGINT (143: SIGTERM)
)";

// Words of `text` on lines of at most kWidth, all but the first indented.
std::string wrapped(std::string_view text, std::size_t indent) {
  std::string out;
  std::size_t column = indent;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    if (column + word.size() + 1 > kWidth && column > indent) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    at = end + 1;
  }
  return out;
}

/// Where the words that a flag takes would make its own line too long, they follow its description.
bool has_many_choices(const CLI::Option& option) {
  return fmt::format("{}", fmt::join(choices_of(option), "|")).size() > 64;
}

std::string value_name(const CLI::Option& option) {
  if (is_flag(option)) return {};
  const auto choices = choices_of(option);
  const std::string more = takes_many_words(option) ? " ..." : "";
  if (!choices.empty() && !has_many_choices(option)) return fmt::format(" {}{}", fmt::join(choices, "|"), more);
  const std::string type = option.get_type_name();
  const std::string name = type.substr(0, type.find(":{"));  // CLI11 appends the choices
  if (!more.empty()) return " " + name.substr(0, name.size() - kManyWords.size()) + more;
  return " " + (name == "INT" || name == "UINT" ? "N" : name == "FLOAT" ? "X" : name.empty() ? "TEXT" : name);
}

std::string names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  if (names.empty()) return option.get_name(true);
  return (option.get_snames().empty() ? "    " : "") + fmt::format("{}", fmt::join(names, ", ")) + value_name(option);
}

std::string option_lines(const CLI::Option& option) {
  std::string text = option.get_description();
  if (has_many_choices(option)) text += fmt::format(": {}", fmt::join(choices_of(option), ", "));
  const std::string fallback = option.get_default_str();
  if (!is_flag(option) && !fallback.empty() && fallback != "[]" && fallback != "\"\"")
    text += fmt::format(" (default {})", fallback);
  if (is_list(option) && !takes_many_words(option) && !option.get_positional()) text += " (may be repeated)";
  if (option.get_required()) text += " (required)";
  const std::string names = "  " + names_of(option);
  const std::string gap =
      names.size() + 2 <= kColumn ? std::string(kColumn - names.size(), ' ') : "\n" + std::string(kColumn, ' ');
  return names + gap + wrapped(text, kColumn) + "\n";
}

std::string usage(const CLI::App& app) {
  std::string line = "Usage: " + app.get_name();
  if (!app.get_subcommands([](const CLI::App*) { return true; }).empty()) line += " COMMAND";
  line += " [FLAGS]";
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) line += " " + option->get_name(true);
  }
  return line + "\n";
}

}  // namespace

std::string help_text(const CLI::App& app, const std::string& example) {
  std::string out = wrapped(app.get_description(), 0) + "\n\n" + usage(app);
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  if (!commands.empty()) out += "\nCommands:\n";
  for (const CLI::App* command : commands)
    out += fmt::format("  {:<30}{}\n", command->get_name(), wrapped(command->get_description(), kColumn));
  // The tool's own groups come first: they are why the user looks.
  std::vector<std::string> groups = app.get_groups();
  const auto shared = [](const std::string& g) {
    return g == "Model and device" || g == "Input and output" || g == "Messages" || g == "Help";
  };
  std::stable_partition(groups.begin(), groups.end(), [&](const std::string& g) { return !shared(g); });
  for (const std::string& group : groups) {
    const auto options = app.get_options([&group](const CLI::Option* o) { return o->get_group() == group; });
    if (group.empty() || options.empty()) continue;
    out += fmt::format("\n{}:\n", group);
    for (const CLI::Option* option : options) out += option_lines(*option);
  }
  if (!example.empty()) out += "\nExample:\n  " + example + "\n";
  return out + "\n" + std::string(kExitCodes);
}

}  // namespace atelier::cli
