// The harness itself (tests/support/process.h): what it reports must be what happened.
#include <doctest/doctest.h>
#include <csignal>

#include "support/process.h"

using namespace atelier::test;

TEST_CASE("the harness carries input, output, environment and exit codes") {
  const Result r = run(
      {.program = "/bin/sh", .args = {"-c", "cat; echo \"$X\" >&2; exit 7"}, .input = "abc", .env = {{"X", "y z"}}});
  CHECK(r.code == 7);
  CHECK(r.signal == 0);
  CHECK(r.out == "abc");
  CHECK(r.err == "y z\n");
  CHECK(run({.program = "/no/such/program"}).code == 127);
}

TEST_CASE("the harness does not hang on large data, closed pipes or silent programs") {
  const std::string large(3 << 20, 'x');
  CHECK(run({.program = "/bin/cat", .input = large}).out == large);
  CHECK(run({.program = "/bin/true", .input = large}).code == 0);
  const Result r = run({.program = "/bin/sleep", .args = {"20"}, .timeout = std::chrono::milliseconds(150)});
  CHECK(r.timed_out);
  CHECK(r.signal == SIGKILL);
}

TEST_CASE("the harness knows /dev/full, closed descriptors, head -c, limits and signals") {
  CHECK(run({.program = "/bin/echo", .args = {"x"}, .out = Wire::full}).code == 1);
  CHECK(run({.program = "/bin/echo", .args = {"x"}, .out = Wire::closed}).code == 1);
  const Result cut = run({.program = "/usr/bin/yes", .close_out_after = 4});
  CHECK(cut.out == "y\ny\n");
  CHECK(cut.signal == SIGPIPE);
  CHECK(run({.program = "/usr/bin/yes", .ignore_sigpipe = true, .close_out_after = 4}).code == 1);
  const Result stopped = run({.program = "/bin/sh",
                              .args = {"-c", "echo go; exec sleep 20"},
                              .signal = SIGTERM,
                              .signal_when = [](const std::string& out, const std::string&) { return out == "go\n"; }});
  CHECK(stopped.signal == SIGTERM);
  const Result limited =
      run({.program = "/bin/sh", .args = {"-c", "ulimit -v; ulimit -f"}, .max_memory = 256u << 20, .max_file = 8192});
  CHECK(limited.out == "262144\n16\n");
}

TEST_CASE("the harness gives a terminal, and a session to talk to") {
  CHECK(run({.program = "/bin/sh", .args = {"-c", "test -t 0 && test -t 1 && test -t 2"}, .pty = true}).code == 0);
  Session session({.program = "/bin/cat"});
  session.send("one\n");
  CHECK(session.expect("one\n"));
  session.send("two\n");
  CHECK(session.expect("two\n"));
  CHECK_FALSE(session.expect("three", std::chrono::milliseconds(50)));
  session.close_input();
  CHECK(session.wait().code == 0);
}
