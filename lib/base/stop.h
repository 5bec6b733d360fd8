#pragma once

#include "base/error.h"

namespace atelier::base {

/// SIGINT and SIGTERM set a flag (nothing else happens in the handler); a second signal ends the process at once with
/// 128 + signal. SIGPIPE keeps its default action: a reader that has seen enough (`| head -c1`) ends the tool silently, as
/// it ends every Unix filter.
void install_stop_handlers();

/// The signal that asked for the stop, or 0.
int stop_signal() noexcept;
bool stop_requested() noexcept;
/// Forgets the request: gemma-chat's Ctrl-C stops the reply and not the program.
void clear_stop() noexcept;
/// As if the signal had arrived (tests, and programs embedding the library).
void request_stop(int signal) noexcept;

/// Thrown by throw_if_stopped; its code is 130 or 143, or 75 where the thrower has saved a resumable state.
class Stopped : public Error {
 public:
  using Error::Error;
};

/// Call at every step of a loop that can take longer than a moment: loading, stepping, evaluating, saving.
void throw_if_stopped();

/// While it lives, throw_if_stopped() does nothing on its thread: a stop is when a state must be saved, not what may cut the
/// saving short. A second signal still ends the process.
class StopPostponed {
 public:
  StopPostponed() noexcept;
  ~StopPostponed();
  StopPostponed(const StopPostponed&) = delete;
  StopPostponed& operator=(const StopPostponed&) = delete;
};

}  // namespace atelier::base
