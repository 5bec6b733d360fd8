#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "cli/terminal_filter.h"

namespace atelier::cli {

/// The payload's way out. Every byte is written at once (nothing is buffered, so a reader sees tokens as they come) and
/// every write is checked: Error(io) where stdout is full, closed, or a pipe whose reader has gone while SIGPIPE is
/// ignored.
class Output {
 public:
  /// `name` is for messages. The descriptor stays the caller's.
  explicit Output(int descriptor = 1, std::string name = "stdout");

  bool terminal() const { return terminal_; }
  /// Bytes as they are.
  void write(std::string_view bytes);
  /// Text of a model or from a file: filtered where it goes to a terminal, else as it is.
  void text(std::string_view chunk);
  /// Ends a text: whatever the filter still holds.
  void end_text();
  /// One JSON object on one line. On a terminal its DEL, C1 and reordering characters are written as \uXXXX.
  void record(const base::Json& value);
  /// The line that record() writes, with its newline.
  std::string record_line(const base::Json& value) const;

 private:
  int descriptor_;
  std::string name_;
  bool terminal_;
  TerminalFilter filter_;
};

/// Flushes std::cout and C's stdout and checks both; run_main calls it last. Error(io).
void flush_standard_output();

/// Opens /dev/null in place of a closed stdin, stdout or stderr, so that no later file lands on these numbers; writing
/// to such a stdout fails.
void guard_standard_descriptors();

}  // namespace atelier::cli
