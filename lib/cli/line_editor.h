#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace atelier::cli {

/// What a person typed.
struct TypedLine {
  enum class End { line, interrupted, end_of_input } end = End::line;
  std::string text;  ///< without the newline; whole UTF-8
};

/// Lines from a terminal: with libedit (editing, history, Emacs keys, ~/.editrc), or, in builds without it, as the kernel's
/// line discipline gives them. The prompt and what is typed are drawn on stderr where that is a terminal, so that stdout
/// holds nothing else than replies.
class LineEditor {
 public:
  /// `history_file` is read now and written by save_history; "" keeps none.
  static std::unique_ptr<LineEditor> open(const std::string& tool, const std::string& history_file);
  virtual ~LineEditor() = default;

  /// Waits for a line. SIGINT ends the wait (End::interrupted, and the request is cleared); SIGTERM throws base::Stopped.
  virtual TypedLine read(const std::string& prompt) = 0;
  /// Adds a line to the history; blank ones and repetitions of the last are left out.
  virtual void remember(const std::string& line) = 0;
  /// Whole or not at all, for its owner only. A file that cannot be written is a warning.
  virtual void save_history() = 0;
};

/// "libedit", or "none": for --help.
std::string line_editor_name();

/// $XDG_STATE_HOME/atelier/chat_history, or ~/.local/state/atelier/chat_history; "" where neither is set.
std::string default_history_file();

}  // namespace atelier::cli
