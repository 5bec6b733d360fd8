#include "cli/line_editor.h"

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <exception>
#include <filesystem>

#include <langinfo.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "base/stop.h"
#include "io/file_system.h"
#include "text/utf8.h"

#ifdef ATELIER_HAVE_LIBEDIT
#include <histedit.h>
#endif

namespace atelier::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_history = 1000, most_history_bytes = 16u << 20;

enum class Byte { one, interrupted, end };

/// The next byte of the terminal. Waiting in poll() lets a signal through at any moment.
Byte read_byte(char& byte) {
  for (;;) {
    if (base::stop_signal() == SIGINT) return Byte::interrupted;
    base::throw_if_stopped();
    pollfd wait{STDIN_FILENO, POLLIN, 0};
    if (poll(&wait, 1, 200) <= 0) continue;
    const ssize_t size = ::read(STDIN_FILENO, &byte, 1);
    if (size == 1) return Byte::one;
    if (size == 0 || (errno != EINTR && errno != EAGAIN)) return Byte::end;
  }
}

/// The history: one entry a line, oldest first.
class HistoryFile {
 public:
  explicit HistoryFile(std::string path) : path_(std::move(path)) {
    std::error_code ignored;
    if (path_.empty() || !fs::exists(path_, ignored)) return;
    try {
      const std::string text = text::replace_invalid(io::read_file(path_, most_history_bytes));
      for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        add(text.substr(at, end - at));
        at = end + 1;
      }
    } catch (const base::Error& error) {
      base::log_warning(fmt::format("the history is not used: {}", error.what()));
      path_.clear();
    }
    changed_ = false;
  }

  bool add(const std::string& line) {
    if (line.find_first_not_of(" \t") == std::string::npos || (!lines_.empty() && lines_.back() == line)) return false;
    lines_.push_back(line);
    if (lines_.size() > most_history) lines_.erase(lines_.begin());
    changed_ = true;
    return true;
  }

  void save() {
    if (path_.empty() || !changed_) return;
    std::string text;
    for (const std::string& line : lines_) text += line + "\n";
    try {
      if (const auto folder = fs::path(path_).parent_path(); !folder.empty())
        io::file_system().create_folders(folder.string());
      const mode_t mask = umask(077);  // what was typed is nobody else's business
      try {
        io::write_atomically(path_, text);
      } catch (...) {
        umask(mask);
        throw;
      }
      umask(mask);
      changed_ = false;
    } catch (const base::Error& error) {
      base::log_warning(fmt::format("the history is not kept: {}", error.what()));
      path_.clear();
    }
  }

  const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::string path_;
  std::vector<std::string> lines_;
  bool changed_ = false;
};

std::FILE* prompt_stream() { return isatty(STDERR_FILENO) == 1 || isatty(STDOUT_FILENO) == 0 ? stderr : stdout; }

/// Without a library: the kernel's own editing (backspace, Ctrl-U, Ctrl-W).
class PlainEditor final : public LineEditor {
 public:
  explicit PlainEditor(const std::string& history_file) : history_(history_file) {}

  TypedLine read(const std::string& prompt) override {
    std::fputs(prompt.c_str(), prompt_stream());
    std::fflush(prompt_stream());
    TypedLine line;
    for (;;) {
      char byte = 0;
      const Byte what = read_byte(byte);
      if (what == Byte::interrupted) {
        base::clear_stop();
        return {TypedLine::End::interrupted, {}};
      }
      if (what == Byte::end && line.text.empty()) return {TypedLine::End::end_of_input, {}};
      if (what == Byte::end || byte == '\n') break;
      line.text += byte;
    }
    line.text = text::replace_invalid(line.text);
    return line;
  }

  void remember(const std::string& line) override { history_.add(line); }
  void save_history() override { history_.save(); }

 private:
  HistoryFile history_;
};

#ifdef ATELIER_HAVE_LIBEDIT

/// libedit draws wide characters in the locale's encoding: where the environment names none with UTF-8, C.UTF-8 is taken.
void choose_locale() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

class LibeditEditor final : public LineEditor {
 public:
  LibeditEditor(const std::string& tool, const std::string& history_file) : file_(history_file) {
    choose_locale();
    // Streams of its own: libedit keeps them, and stdin's buffer must not swallow what is typed during a reply.
    editor_ = el_init(tool.c_str(), stdin, prompt_stream(), stderr);
    if (editor_ == nullptr) throw base::Error(base::ExitCode::internal, "the line editor does not start");
    history_ = history_init();
    HistEvent event;
    history(history_, &event, H_SETSIZE, static_cast<int>(most_history));
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_PROMPT, &LibeditEditor::prompt_of);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_SIGNAL, 0);  // SIGINT and SIGTERM are the tool's own
    el_set(editor_, EL_HIST, history, history_);
    el_set(editor_, EL_GETCFN, &LibeditEditor::next_character);
    el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    el_set(editor_, EL_BIND, "\033[1;5D", "ed-prev-word", nullptr);
    el_set(editor_, EL_BIND, "\033[1;5C", "em-next-word", nullptr);
    el_set(editor_, EL_BIND, "\033[3~", "ed-delete-next-char", nullptr);
    el_source(editor_, nullptr);
    for (const std::string& line : file_.lines()) history(history_, &event, H_ENTER, line.c_str());
  }

  ~LibeditEditor() override {
    history_end(history_);
    el_end(editor_);
  }

  TypedLine read(const std::string& prompt) override {
    prompt_ = prompt;
    interrupted_ = false;
    stopped_ = nullptr;
    el_resize(editor_);
    // Before the prompt is drawn: what is typed the moment it appears must not meet the kernel's line discipline.
    el_set(editor_, EL_PREP_TERM, 1);
    int count = 0;
    const char* line = el_gets(editor_, &count);
    if (interrupted_ || stopped_) {
      // The half-typed line is left as it stands; the next one begins clean.
      std::fputs("^C\n", prompt_stream());
      std::fflush(prompt_stream());
      el_reset(editor_);
      if (stopped_) std::rethrow_exception(stopped_);
      base::clear_stop();
      return {TypedLine::End::interrupted, {}};
    }
    if (line == nullptr || count <= 0) return {TypedLine::End::end_of_input, {}};
    std::string text(line, static_cast<std::size_t>(count));
    if (text.ends_with('\n')) text.pop_back();
    return {TypedLine::End::line, text::replace_invalid(text)};
  }

  void remember(const std::string& line) override {
    if (!file_.add(line)) return;
    HistEvent event;
    history(history_, &event, H_ENTER, line.c_str());
  }

  void save_history() override { file_.save(); }

 private:
  static LibeditEditor& self(EditLine* editor) {
    void* data = nullptr;
    el_get(editor, EL_CLIENTDATA, &data);
    return *static_cast<LibeditEditor*>(data);
  }

  static char* prompt_of(EditLine* editor) { return self(editor).prompt_.data(); }

  /// 1 and a character, 0 at the end of the input, -1 to end the line. Decodes UTF-8 whatever the locale.
  static int next_character(EditLine* editor, wchar_t* character) {
    LibeditEditor& own = self(editor);
    try {
      std::string bytes;
      for (;;) {
        char byte = 0;
        const Byte what = read_byte(byte);
        own.interrupted_ = what == Byte::interrupted;
        if (what == Byte::interrupted) return -1;
        if (what == Byte::end) return 0;
        // Ctrl-D typed while the terminal was not being edited (during a reply) arrives as NUL.
        bytes += byte == '\0' ? '\x04' : byte;
        const auto step = text::decode_utf8(bytes);
        if (step.truncated) continue;
        *character = static_cast<wchar_t>(step.valid ? step.code_point : 0xFFFD);
        return 1;
      }
    } catch (...) {  // exceptions do not pass through C
      own.stopped_ = std::current_exception();
      return -1;
    }
  }

  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
  HistoryFile file_;
  std::string prompt_;
  bool interrupted_ = false;
  std::exception_ptr stopped_;
};

#endif

}  // namespace

std::unique_ptr<LineEditor> LineEditor::open(const std::string& tool, const std::string& history_file) {
#ifdef ATELIER_HAVE_LIBEDIT
  if (isatty(fileno(prompt_stream())) == 1) return std::make_unique<LibeditEditor>(tool, history_file);
#endif
  return std::make_unique<PlainEditor>(history_file);
}

std::string line_editor_name() {
#ifdef ATELIER_HAVE_LIBEDIT
  return "libedit";
#else
  return "none";
#endif
}

std::string default_history_file() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/')
    return std::string(state) + "/atelier/chat_history";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
    return std::string(home) + "/.local/state/atelier/chat_history";
  return {};
}

}  // namespace atelier::cli
