#include "cli/chat_terminal.h"

#include <algorithm>
#include <csignal>
#include <optional>
#include <string_view>
#include <thread>

#include <fmt/format.h>

#include "base/log.h"
#include "base/stop.h"
#include "cli/arguments.h"
#include "cli/line_editor.h"
#include "io/file_system.h"

namespace atelier::cli {
namespace {

using base::Error;
using base::ExitCode;
using base::Json;

constexpr std::uint64_t most_session_bytes = 256u << 20;

constexpr std::string_view kHelp = R"(/help            this
/system [TEXT]   show the system text, or set it (/system none takes it away)
/set [NAME VALUE]  show the settings, or change one: /set temperature 0.5, /set status on
/reset           begin anew, with the same system text and settings
/undo            take back the last turn
/retry           answer the last turn again, with another seed
/result TEXT     the answer to the function that the model called (JSON, or a text)
/save FILE       write messages and settings to a session file
/load FILE       go on with one
/tokens          tokens and speed of the last reply, and how full the context is
/exit            leave, as Ctrl-D does
A line that ends in \ goes on with the next; """ begins and ends several lines; // begins a text with a slash.
Ctrl-C stops a reply. Up and Down go through what was typed, Ctrl-R searches it.
)";

/// A second Ctrl-C while the first is being seen to must not end the program, as it would with base's own handler.
class GentleInterrupts {
 public:
  GentleInterrupts() {
    struct sigaction action {};
    action.sa_handler = [](int signal) { base::request_stop(signal); };
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &before_);
  }
  ~GentleInterrupts() { sigaction(SIGINT, &before_, nullptr); }
  GentleInterrupts(const GentleInterrupts&) = delete;
  GentleInterrupts& operator=(const GentleInterrupts&) = delete;

 private:
  struct sigaction before_ {};
};

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") + 1 - first);
}

class TerminalChat {
 public:
  TerminalChat(ChatDriver& driver, const ChatOptions& options, Output& output)
      : driver_(driver),
        options_(options),
        output_(output),
        status_(options.status),
        editor_(LineEditor::open("gemma-chat", options.no_history        ? std::string()
                                               : options.history.empty() ? default_history_file()
                                                                         : options.history)) {}

  ~TerminalChat() {
    base::request_stop(SIGINT);  // of what is still computed ahead
    wait_for_settling();
    base::clear_stop();
    editor_->save_history();
  }

  TerminalChat(const TerminalChat&) = delete;
  TerminalChat& operator=(const TerminalChat&) = delete;

  void run() {
    base::log_info("/help lists the commands, Ctrl-D leaves");
    if (driver_.session().awaits_answer()) reply();
    while (!left_) {
      const auto text = next_text();
      if (!text) break;
      wait_for_settling();
      try {
        take(*text);
      } catch (const base::Stopped&) {
        if (base::stop_signal() != SIGINT) throw;
        base::clear_stop();
      } catch (const Error& error) {
        if (error.code() == ExitCode::io) throw;  // stdout is gone
        base::log_error(error.what());
        if (!error.hint().empty()) base::log_hint(error.hint());
      }
    }
  }

 private:
  /// What is typed up to an Enter that ends it; nothing at the end of the input.
  std::optional<std::string> next_text() {
    std::string text;
    bool quoted = false;
    for (std::string prompt = "> ";; prompt = "... ") {
      const TypedLine typed = editor_->read(prompt);
      if (typed.end == TypedLine::End::interrupted) {
        if (!std::exchange(hinted_, true)) base::log_info("Ctrl-D or /exit leaves");
        return std::string();
      }
      if (typed.end == TypedLine::End::end_of_input) {
        output_.write("\n");
        return std::nullopt;
      }
      editor_->remember(typed.text);
      std::string line = typed.text;
      if (!quoted && text.empty() && line.starts_with("\"\"\"")) {
        quoted = true;
        line.erase(0, 3);
        if (line.empty()) continue;
      }
      if (quoted) {
        const bool ends = line.ends_with("\"\"\"");
        if (ends) line.erase(line.size() - 3);
        text += line;
        if (ends) return text;
        text += '\n';
        continue;
      }
      const bool goes_on = line.ends_with('\\');
      if (goes_on) line.back() = '\n';
      text += line;
      if (!goes_on) return text;
    }
  }

  void take(const std::string& typed) {
    const std::string_view text = trimmed(typed);
    if (text.empty()) return;
    if (text[0] == '/' && !text.starts_with("//")) return command(text.substr(1));
    driver_.add_user(text.starts_with("//") ? std::string(text.substr(1)) : typed);
    try {
      reply();
    } catch (...) {
      if (driver_.session().awaits_answer()) driver_.session().undo();
      throw;
    }
  }

  void reply() {
    bool at_line_start = true;
    const auto say = [&](std::string_view part) {
      output_.text(part);
      if (!part.empty()) at_line_start = part.back() == '\n';
    };
    const auto answer = driver_.answer(say);
    if (!answer.streamed) say(answer.text);
    output_.end_text();
    if (!at_line_start || answer.text.empty()) output_.write("\n");
    if (answer.stopped) {
      base::clear_stop();
      if (driver_.session().awaits_answer()) driver_.session().undo();  // nothing was said yet
      base::log_info("stopped");
    }
    if (answer.blocked)
      base::log_warning(fmt::format("{}; it is not part of the conversation", blocked_message(answer.record["safety_ratings"])));
    if (status_) base::log_info(driver_.status());
    settle_behind();
  }

  /// While the next line is being typed, the reply's part of the next prompt is computed.
  void settle_behind() {
    settling_ = std::thread([this] {
      try {
        driver_.settle();
      } catch (...) {  // the next prompt will meet the same, and report it
      }
    });
  }

  void wait_for_settling() {
    if (settling_.joinable()) settling_.join();
  }

  void command(std::string_view line) {
    const std::size_t blank = std::min(line.find_first_of(" \t\n"), line.size());
    const std::string name(line.substr(0, blank)), rest(trimmed(line.substr(blank)));
    static const std::vector<std::string> known = {"help",  "system", "set",  "reset",  "undo", "retry",
                                                   "result", "save",  "load", "tokens", "exit"};
    if (name == "help") return output_.write(kHelp);
    if (name == "exit" || name == "quit") return static_cast<void>(left_ = true);
    if (name == "system") return system(rest);
    if (name == "set") return set(rest);
    if (name == "reset") return reset();
    if (name == "undo") return undo();
    if (name == "retry") return retry();
    if (name == "result") return result(rest);
    if (name == "save") return save(rest);
    if (name == "load") return load(rest);
    if (name == "tokens") return output_.write(driver_.status() + "\n");
    throw Error(ExitCode::usage, fmt::format("unknown command {}", base::in_quotes("/" + name)),
                did_you_mean(name, known, "/"));
  }

  void system(const std::string& text) {
    if (text.empty()) {
      const std::string now = driver_.session().system();
      output_.text(now.empty() ? "(no system text)" : now);
      output_.end_text();
      return output_.write("\n");
    }
    driver_.session().set_system(text == "none" ? std::string() : text);
  }

  void set(const std::string& text) {
    if (text.empty()) {
      std::string lines = fmt::format("temperature {}\n", driver_.temperature());
      const Json options = session_options(driver_.generation());
      for (const auto& [key, value] : options.items())
        if (key != "temperature") lines += fmt::format("{} {}\n", key, base::dump_json(value));
      return output_.write(lines + fmt::format("status {}\n", status_ ? "on" : "off"));
    }
    const std::size_t split = text.find_first_of(" =\t");
    if (split == std::string::npos) throw Error(ExitCode::usage, "/set wants a name and a value", "/set temperature 0.5");
    const std::string name = text.substr(0, split), value(trimmed(std::string_view(text).substr(split + 1)));
    if (name != "status") return set_option(name, value);
    if (value != "on" && value != "off") throw Error(ExitCode::usage, "/set status: on or off");
    status_ = value == "on";
  }

  void set_option(const std::string& name, const std::string& value) {
    try {
      driver_.set_option(name, value);
    } catch (const Error& error) {
      throw Error(error.code(), error.what(), error.hint().empty() ? "/set alone shows names and values" : error.hint());
    }
  }

  void reset() {
    Json kept = Json::array();
    if (const std::string text = driver_.session().system(); !text.empty())
      kept.push_back({{"role", "system"}, {"content", text}});
    driver_.session().set_messages(kept);
  }

  void undo() {
    if (!driver_.session().undo()) throw Error(ExitCode::usage, "there is no turn to take back");
  }

  void retry() {
    if (!driver_.session().take_back_reply()) throw Error(ExitCode::usage, "there is no turn to answer again");
    reply();
  }

  void result(const std::string& text) {
    if (text.empty()) throw Error(ExitCode::usage, "/result wants what the function gave", "/result {\"count\": 3}");
    driver_.add_result(text);
    reply();
  }

  void save(const std::string& path) {
    if (path.empty()) throw Error(ExitCode::usage, "/save wants a file");
    io::write_atomically(path, driver_.session_json().dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    options_.common.record->outputs.push_back(path);
    base::log_info(fmt::format("saved to {}", base::in_quotes(path)));
  }

  void load(const std::string& path) {
    if (path.empty()) throw Error(ExitCode::usage, "/load wants a file");
    driver_.load(text::check_session(base::read_json_file(path, most_session_bytes), path), path, /*keep_given=*/false);
    base::log_info(fmt::format("{} messages", driver_.session().messages().size()));
    if (driver_.session().awaits_answer()) reply();
  }

  ChatDriver& driver_;
  const ChatOptions& options_;
  Output& output_;
  bool status_, left_ = false, hinted_ = false;
  std::unique_ptr<LineEditor> editor_;
  std::thread settling_;
};

}  // namespace

void chat_on_terminal(ChatDriver& driver, const ChatOptions& options, Output& output) {
  const GentleInterrupts interrupts;
  TerminalChat(driver, options, output).run();
}

}  // namespace atelier::cli
