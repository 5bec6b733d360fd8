#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <functional>
#include <string>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <pty.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"
#include "base/progress.h"
#include "base/stop.h"
#include "support/errors.h"
#include "support/scratch.h"

using namespace atelier::base;
using atelier::test::contains;
using atelier::test::error_of;

namespace {

using Clock = std::chrono::steady_clock;
Clock::time_point g_time{std::chrono::hours(1)};
Clock::time_point fake_now() { return g_time; }

// Puts `fd` in the place of stderr while the action runs.
void with_stderr(int fd, const std::function<void()>& action) {
  std::fflush(stderr);
  const int saved = dup(STDERR_FILENO);
  dup2(fd, STDERR_FILENO);
  action();
  std::fflush(stderr);
  dup2(saved, STDERR_FILENO);
  close(saved);
}

std::string on_file(const std::function<void()>& action) {
  const atelier::test::Scratch scratch;
  const int fd = open(scratch.file("err").c_str(), O_RDWR | O_CREAT, 0600);
  with_stderr(fd, action);
  close(fd);
  return atelier::test::get_file(scratch.file("err"));
}

std::string on_terminal(unsigned short columns, const std::function<void()>& action) {
  int master = -1, slave = -1;
  winsize size{24, columns, 0, 0};
  termios raw{};
  cfmakeraw(&raw);
  REQUIRE(openpty(&master, &slave, nullptr, &raw, &size) == 0);
  fcntl(master, F_SETFL, O_NONBLOCK);
  with_stderr(slave, action);
  std::string text;
  char block[4096];
  for (ssize_t got; (got = read(master, block, sizeof block)) > 0;) text.append(block, static_cast<std::size_t>(got));
  close(slave);
  close(master);
  return text;
}

// Runs the action in a child and gives its wait status.
int in_child(const std::function<int()>& action) {
  const pid_t child = fork();
  if (child == 0) _exit(action());
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

struct ProgressSetup {
  explicit ProgressSetup(ProgressMode mode) {
    set_progress_clock(&fake_now);
    set_progress_mode(mode);
    set_tool_name("tool");
  }
  ~ProgressSetup() {
    set_progress_clock(nullptr);
    set_progress_mode(ProgressMode::automatic);
    set_log_level(LogLevel::normal);
    set_tool_name("");
  }
};

void run_task(int steps, std::chrono::milliseconds step, const std::string& note = {}) {
  Progress progress("loading", static_cast<std::uint64_t>(steps), "files");
  for (int i = 1; i <= steps; ++i) {
    g_time += step;
    progress.update(static_cast<std::uint64_t>(i), note);
  }
}

}  // namespace

TEST_CASE("log lines: prefix, level, escapes") {
  const ProgressSetup setup(ProgressMode::automatic);
  const auto all = [] {
    log_error("bad \x1b[2J name\n");
    log_hint("try this");
    log_warning("careful");
    log_info("note");
    log_verbose("detail");
  };
  CHECK(on_file(all) == "tool: error: bad \\x1B[2J name\\x0A\nhint: try this\ntool: warning: careful\ntool: note\n");
  set_log_level(LogLevel::quiet);
  CHECK(on_file(all) == "tool: error: bad \\x1B[2J name\\x0A\nhint: try this\n");
  set_log_level(LogLevel::verbose);
  CHECK(contains(on_file(all), "tool: detail\n"));
}

TEST_CASE("progress off a terminal: a plain line at most every 10 s") {
  const ProgressSetup setup(ProgressMode::automatic);
  CHECK(on_file([] { run_task(9, std::chrono::milliseconds(1000)); }).empty());
  const std::string text = on_file([] { run_task(100, std::chrono::milliseconds(350), "x\x1b"); });
  CHECK(text ==
        "tool: loading:  29% 29/100 files, 2.9 files/s, 0:24 left, x\\x1B\n"
        "tool: loading:  58% 58/100 files, 2.9 files/s, 0:14 left, x\\x1B\n"
        "tool: loading:  87% 87/100 files, 2.9 files/s, 0:04 left, x\\x1B\n");
}

TEST_CASE("progress is silent with --quiet and with `never`") {
  const ProgressSetup setup(ProgressMode::never);
  CHECK(on_terminal(80, [] { run_task(100, std::chrono::seconds(1)); }).empty());
  set_progress_mode(ProgressMode::always);
  set_log_level(LogLevel::quiet);
  CHECK(on_file([] { run_task(100, std::chrono::seconds(1)); }).empty());
}

TEST_CASE("progress on a terminal: a bar that fits its width and ends with a line") {
  const ProgressSetup setup(ProgressMode::automatic);
  const std::string text = on_terminal(120, [] { run_task(4, std::chrono::milliseconds(200), "loss 1.25"); });
  CHECK(contains(text, "\rloading [######..................]  25% 1/4 files, 5.0 files/s, 0:00 left, loss 1.25\x1b[K"));
  CHECK(contains(text, "[########################] 100% 4/4 files"));
  CHECK(text.back() == '\n');
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
  const std::string narrow = on_terminal(20, [] { run_task(1, std::chrono::milliseconds(200)); });
  CHECK(contains(narrow, "\rloading [##########\x1b[K\r"));
  const std::string umlauts =
      on_terminal(6, [] { Progress("\u00e4\u00f6\u00fc\u00e4\u00f6\u00fc\u00e4", 1, "x").update(1); });
  CHECK(contains(umlauts, "\u00e4\u00f6\u00fc\u00e4\u00f6\x1b[K\n"));
}

TEST_CASE("progress redraws at most ten times a second, and a log line clears the bar first") {
  const ProgressSetup setup(ProgressMode::always);
  const std::string text = on_file([] { run_task(1000, std::chrono::milliseconds(1)); });
  CHECK(std::count(text.begin(), text.end(), '\r') <= 12);
  CHECK(contains(text, "1000/1000"));
  const std::string mixed = on_file([] {
    Progress progress("p", 0, "tok");
    progress.update(3);
    log_info("note");
  });
  CHECK(contains(mixed, "3 tok\x1b[K\r\x1b[Ktool: note\n"));
}

TEST_CASE("the first signal sets a flag, the second ends the process with 128 + signal") {
  for (const int signal : {SIGINT, SIGTERM}) {
    CAPTURE(signal);
    const int once = in_child([&] {
      install_stop_handlers();
      if (stop_requested()) return 1;
      raise(signal);
      if (stop_signal() != signal) return 2;
      clear_stop();
      if (stop_requested()) return 3;
      raise(signal);
      return stop_signal() == signal ? 0 : 4;
    });
    CHECK(WIFEXITED(once));
    CHECK(WEXITSTATUS(once) == 0);
    const int twice = in_child([&] {
      install_stop_handlers();
      raise(signal);
      raise(signal);
      return 0;
    });
    CHECK(WIFEXITED(twice));
    CHECK(WEXITSTATUS(twice) == 128 + signal);
  }
}

TEST_CASE("SIGPIPE still ends the process") {
  const int status = in_child([] {
    install_stop_handlers();
    raise(SIGPIPE);
    return 0;
  });
  CHECK(WIFSIGNALED(status));
}

TEST_CASE("throw_if_stopped: the exit code follows the signal") {
  throw_if_stopped();
  request_stop(SIGINT);
  CHECK(error_of(ExitCode::interrupted, [] { throw_if_stopped(); }) == "stopped by SIGINT");
  clear_stop();
  request_stop(SIGTERM);
  CHECK(error_of(ExitCode::terminated, [] { throw_if_stopped(); }) == "stopped by SIGTERM");
  CHECK_THROWS_AS(throw_if_stopped(), Stopped);
  clear_stop();
  throw_if_stopped();
}

TEST_CASE("a stop waits where it is postponed") {
  {
    const StopPostponed outer;
    request_stop(SIGTERM);
    throw_if_stopped();
    { const StopPostponed inner; }
    throw_if_stopped();
    CHECK(stop_requested());
  }
  CHECK_THROWS_AS(throw_if_stopped(), Stopped);
  clear_stop();
}
