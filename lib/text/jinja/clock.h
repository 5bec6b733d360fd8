#pragma once

#include <ctime>

namespace atelier::text::jinja {

/// The time that strftime_now tells: the system's, or the one set by ScopedClock.
std::time_t now();

/// Stops the clock for tests.
class ScopedClock {
 public:
  explicit ScopedClock(std::time_t time);
  ~ScopedClock();
  ScopedClock(const ScopedClock&) = delete;
  ScopedClock& operator=(const ScopedClock&) = delete;
};

}  // namespace atelier::text::jinja
