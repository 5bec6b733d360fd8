#include "base/stop.h"

#include <atomic>
#include <csignal>

#include <unistd.h>

namespace atelier::base {
namespace {

std::atomic<int> g_signal{0};
thread_local int g_postponed = 0;
static_assert(std::atomic<int>::is_always_lock_free, "the handler may only touch lock-free data");

void on_signal(int signal) {
  if (g_signal.exchange(signal) != 0) _exit(128 + signal);
}

}  // namespace

void install_stop_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // no SA_RESTART: a read from a terminal must return, so that Ctrl-C is seen
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int stop_signal() noexcept { return g_signal.load(std::memory_order_relaxed); }
bool stop_requested() noexcept { return stop_signal() != 0; }
void clear_stop() noexcept { g_signal.store(0); }
void request_stop(int signal) noexcept { g_signal.store(signal); }

StopPostponed::StopPostponed() noexcept { ++g_postponed; }
StopPostponed::~StopPostponed() { --g_postponed; }

void throw_if_stopped() {
  if (g_postponed > 0) return;
  switch (stop_signal()) {
    case 0: return;
    case SIGINT: throw Stopped(ExitCode::interrupted, "stopped by SIGINT");
    default: throw Stopped(ExitCode::terminated, "stopped by SIGTERM");
  }
}

}  // namespace atelier::base
