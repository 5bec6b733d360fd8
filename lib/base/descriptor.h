#pragma once

#include <unistd.h>

namespace atelier::base {

/// Closes a file descriptor that was opened for reading.
struct Descriptor {
  explicit Descriptor(int number) : fd(number) {}
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int fd;
};

}  // namespace atelier::base
