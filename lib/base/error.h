#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace atelier::base {

/// What a process returns to its caller; README and --help carry the same table.
enum class ExitCode : int {
  ok = 0,
  some_failed = 3,     ///< a batch finished and some of its items failed
  condition = 4,       ///< a condition that the user set does not hold
  usage = 64,          ///< wrong flag or value
  data = 65,           ///< malformed model, data, image or JSON
  no_input = 66,       ///< input missing or unreadable
  unavailable = 69,    ///< device or feature not available
  internal = 70,       ///< a bug
  out_of_memory = 71,  ///< out of memory, or over --max-ram
  cannot_create = 73,  ///< output cannot be created
  io = 74,             ///< a read or a write failed
  resumable = 75,      ///< stopped by a signal after saving a state that the same command resumes
  interrupted = 130,   ///< stopped by SIGINT, nothing to resume
  terminated = 143,    ///< stopped by SIGTERM, nothing to resume
};

/// The one exception type of the project: thrown where the fact is known, caught once in cli::run_main (and once per
/// line of a batch). `what()` is one line without the tool's name; `hint` is a second line, or empty.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message, std::string hint = {})
      : std::runtime_error(message), code_(code), hint_(std::move(hint)) {}

  ExitCode code() const noexcept { return code_; }
  const std::string& hint() const noexcept { return hint_; }

 private:
  ExitCode code_;
  std::string hint_;
};

}  // namespace atelier::base
