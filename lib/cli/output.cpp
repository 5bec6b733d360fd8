#include "cli/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"

namespace atelier::cli {

using base::Error;
using base::ExitCode;

namespace {

[[noreturn]] void write_failed(const std::string& name, int number) {
  throw Error(ExitCode::io, fmt::format("{}: cannot write: {}", name, std::strerror(number)));
}

// For non-blocking descriptors that somebody handed down.
void wait_writable(int descriptor) {
  pollfd wait{descriptor, POLLOUT, 0};
  poll(&wait, 1, 200);
}

bool hidden_on_terminals(unsigned c) {
  return c == 0x7F || (c >= 0x80 && c < 0xA0) || (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

// JSON text is valid UTF-8 and everything beyond ASCII stands in texts, where \uXXXX means the same.
std::string escape_for_terminal(const std::string& json) {
  std::string out;
  for (std::size_t i = 0; i < json.size();) {
    const auto b = static_cast<unsigned char>(json[i]);
    const std::size_t length = b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
    unsigned c = length == 1 ? b : b & (0xFFu >> (length + 1));
    for (std::size_t k = 1; k < length && i + k < json.size(); ++k)
      c = c << 6 | (static_cast<unsigned char>(json[i + k]) & 0x3Fu);
    if (hidden_on_terminals(c)) {
      out += fmt::format("\\u{:04x}", c);
    } else {
      out.append(json, i, length);
    }
    i += length;
  }
  return out;
}

}  // namespace

Output::Output(int descriptor, std::string name)
    : descriptor_(descriptor), name_(std::move(name)), terminal_(isatty(descriptor) == 1) {}

void Output::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      wait_writable(descriptor_);
      base::throw_if_stopped();
    } else if (errno == EINTR) {
      base::throw_if_stopped();
    } else {
      write_failed(name_, errno);
    }
  }
}

void Output::text(std::string_view chunk) { write(terminal_ ? filter_.feed(chunk) : std::string(chunk)); }

void Output::end_text() {
  if (terminal_) write(filter_.finish());
}

std::string Output::record_line(const base::Json& value) const {
  const std::string json = base::dump_json(value);
  return (terminal_ ? escape_for_terminal(json) : json) + "\n";
}

void Output::record(const base::Json& value) { write(record_line(value)); }

void flush_standard_output() {
  errno = 0;
  std::cout.flush();
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0 || !std::cout) {
    write_failed("stdout", errno != 0 ? errno : EIO);
  }
}

void guard_standard_descriptors() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    // open() takes the lowest free number, which is this one. Read-only, so that writing to a closed stdout still
    // fails.
    if (open("/dev/null", descriptor == 2 ? O_WRONLY : O_RDONLY) != descriptor) return;
  }
}

}  // namespace atelier::cli
