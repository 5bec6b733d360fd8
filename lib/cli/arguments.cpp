#include "cli/arguments.h"

#include <algorithm>
#include <initializer_list>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/nearest.h"
#include "cli/validators.h"

namespace atelier::cli {

using base::Error;
using base::ExitCode;

bool is_flag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

bool takes_many_words(const CLI::Option& option) {
  const std::string type = option.get_type_name();  // CLI11 appends what a check says
  const auto at = type.find(kManyWords);
  return at != std::string::npos && at > 0 && type[at - 1] != ',';  // "A,..." is one word with commas in it
}

std::vector<std::string> long_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    names.insert(names.end(), option->get_lnames().begin(), option->get_lnames().end());
  }
  return names;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates, std::string_view prefix) {
  if (word.empty()) return {};
  const auto continues = [word](const std::string& candidate) { return candidate.starts_with(word); };
  const bool unique = std::count_if(candidates.begin(), candidates.end(), continues) == 1;
  const std::string found =
      unique ? *std::find_if(candidates.begin(), candidates.end(), continues) : base::nearest(word, candidates);
  return found.empty() ? "" : fmt::format("did you mean \"{}{}\"?", prefix, found);
}

namespace {

/// Whether an empty value means nothing: of a file, an expression, a list of policies, a pair of languages. Taken as if the flag
/// were not there it would be a constraint ignored, or another model.
bool names_something(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type == "RE" ||
         std::ranges::any_of(std::initializer_list<const char*>{"FILE", "DIR", "PATH", "FROM", "POLICY"},
                             [&](const char* start) { return type.starts_with(start); });
}

/// Walks the command line with the parser's own knowledge of which flag takes a value.
class Normaliser {
 public:
  Normaliser(CLI::App& app, const std::vector<std::string>& args) : app_(&app), args_(args) {}

  std::vector<std::string> run() {
    while (next_ < args_.size()) {
      const std::string& arg = args_[next_++];
      if (arg == "--") {
        out_.push_back(arg);
        while (next_ < args_.size()) positional(args_[next_++]);
      } else if (arg.starts_with("--")) {
        long_flag(arg);
      } else if (arg.size() > 1 && arg[0] == '-') {
        short_flags(arg);
      } else {
        positional(arg);
      }
    }
    return std::move(out_);
  }

 private:
  const CLI::Option* find(const std::string& name) const {
    for (CLI::App* app = app_; app != nullptr; app = app->get_parent()) {
      if (const CLI::Option* option = std::as_const(*app).get_option_no_throw(name)) return option;
    }
    return nullptr;
  }

  [[noreturn]] void unknown(const std::string& shown, const std::string& word) const {
    std::vector<std::string> names;
    for (CLI::App* app = app_; app != nullptr; app = app->get_parent()) {
      const auto own = long_names(*app);
      names.insert(names.end(), own.begin(), own.end());
    }
    throw Error(ExitCode::usage, fmt::format("unknown flag \"{}\"", shown), did_you_mean(word, names, "--"));
  }

  void value_follows(const CLI::Option& option, const std::string& shown) {
    if (next_ == args_.size()) {
      const auto choices = choices_of(option);
      throw Error(ExitCode::usage, fmt::format("{} needs a value", shown),
                  choices.empty() ? "" : fmt::format("one of {}", fmt::join(choices, ", ")));
    }
    push_value(option, shown, args_[next_++]);
  }

  /// "--models A B" as "--models A --models B".
  void more_words(const CLI::Option& option, const std::string& name) {
    if (!takes_many_words(option)) return;
    while (next_ < args_.size() && !args_[next_].starts_with('-')) {
      out_.push_back(name);
      push_value(option, name, args_[next_++]);
    }
  }

  void push_value(const CLI::Option& option, const std::string& shown, const std::string& value) {
    if (value.empty() && names_something(option))
      throw Error(ExitCode::usage, fmt::format("{} is empty", shown), "leave the flag out, or is a variable not set?");
    out_.push_back(value);
  }

  void long_flag(const std::string& arg) {
    const std::size_t equals = arg.find('=');
    const std::string name = arg.substr(0, equals);
    const CLI::Option* option = find(name);
    if (option == nullptr || name.size() < 3) unknown(name, name.substr(2));
    if (is_flag(*option)) {
      if (equals != std::string::npos) check_flag_value(name, arg.substr(equals + 1));
      out_.push_back(arg);
      return;
    }
    out_.push_back(name);
    if (equals == std::string::npos) {
      value_follows(*option, name);
    } else {
      push_value(*option, name, arg.substr(equals + 1));
    }
    more_words(*option, name);
  }

  static void check_flag_value(const std::string& name, const std::string& value) {
    if (value == "true" || value == "false") return;
    throw Error(ExitCode::usage, fmt::format("{}: \"{}\" is neither true nor false", name, value),
                fmt::format("write {} alone", name));
  }

  // -j, -n256, -jn256; the value is never looked at, so it may begin with a dash.
  void short_flags(const std::string& arg) {
    const std::string word = arg.substr(1, arg.find('=') - 1);
    if (word.size() > 1 && find("--" + word) != nullptr) {
      throw Error(ExitCode::usage, fmt::format("unknown flag \"-{}\"", word),
                  fmt::format("did you mean \"--{}\"?", word));
    }
    for (std::size_t i = 1; i < arg.size(); ++i) {
      const std::string name = {'-', arg[i]};
      const CLI::Option* option = find(name);
      if (option == nullptr) unknown(i == 1 ? arg : fmt::format("{} in {}", name, arg), word);
      out_.push_back(name);
      if (is_flag(*option)) continue;
      if (i + 1 < arg.size()) {
        out_.push_back(arg.substr(i + 1));
      } else {
        value_follows(*option, name);
      }
      return;
    }
  }

  void positional(const std::string& arg) {
    for (CLI::App* sub : app_->get_subcommands([&arg](CLI::App* s) { return s->check_name(arg); })) {
      app_ = sub;
      out_.push_back(arg);
      return;
    }
    const auto options = app_->get_options();
    const bool takes = std::any_of(options.begin(), options.end(), [](const auto* o) { return o->get_positional(); });
    if (!takes) unexpected(arg);
    out_.push_back(arg);
  }

  [[noreturn]] void unexpected(const std::string& arg) const {
    std::vector<std::string> commands;
    for (const CLI::App* sub : app_->get_subcommands([](const CLI::App*) { return true; }))
      commands.push_back(sub->get_name());
    if (!commands.empty()) {
      throw Error(ExitCode::usage, fmt::format("unknown command \"{}\"", arg), did_you_mean(arg, commands));
    }
    throw Error(ExitCode::usage, fmt::format("unexpected argument \"{}\"", arg),
                did_you_mean(arg, long_names(*app_), "--"));
  }

  CLI::App* app_;
  const std::vector<std::string>& args_;
  std::size_t next_ = 0;
  std::vector<std::string> out_;
};

// CLI11's sentences, in this project's words. Its own exit codes are never used.
Error translated(const CLI::App& app, const CLI::ParseError& error) {
  const std::string message = error.what();
  const std::string kind = error.get_name();
  if (kind == "ExcludesError") {
    const std::size_t split = message.find(" excludes ");
    return {ExitCode::usage,
            fmt::format("{} and {} cannot be used together", message.substr(0, split), message.substr(split + 10))};
  }
  if (kind == "ConversionError") {
    const std::size_t split = message.find(" = ");
    if (!message.starts_with("Could not convert: ") || split == std::string::npos) return {ExitCode::usage, message};
    return {ExitCode::usage, fmt::format("{}: \"{}\" is not a value it takes", message.substr(19, split - 19),
                                         message.substr(split + 3))};
  }
  if (kind == "FileError") return {ExitCode::no_input, message};
  if (kind == "ValidationError") {
    const std::size_t colon = message.find(": ");
    const CLI::Option* option = app.get_option_no_throw(message.substr(0, colon));
    if (message.find(" does not exist: ") != std::string::npos) return {ExitCode::no_input, message};
    if (option != nullptr && !option->empty()) {
      const auto choices = choices_of(*option);
      return {ExitCode::usage, message, did_you_mean(option->results().back(), choices)};
    }
  }
  return {ExitCode::usage, message};
}

}  // namespace

std::vector<std::string> normalise_arguments(CLI::App& app, const std::vector<std::string>& args) {
  return Normaliser(app, args).run();
}

void parse_normalised(CLI::App& app, std::vector<std::string> args) {
  std::reverse(args.begin(), args.end());  // CLI11 takes them from the back
  try {
    app.parse(args);
  } catch (const CLI::Success&) {
    throw;
  } catch (const CLI::ParseError& error) {
    throw translated(app, error);
  }
}

void parse_arguments(CLI::App& app, const std::vector<std::string>& args) {
  parse_normalised(app, normalise_arguments(app, args));
}

}  // namespace atelier::cli
