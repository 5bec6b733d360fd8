#pragma once

#include <string>

#include <doctest/doctest.h>

#include "base/error.h"

namespace atelier::test {

/// Runs `action` and returns the message of the Error that it throws, checking the exit code; "(no error)" where it throws
/// none. Any other exception fails the test by itself.
template <typename Action>
std::string error_of(base::ExitCode code, const Action& action) {
  try {
    action();
  } catch (const base::Error& error) {
    CHECK(static_cast<int>(error.code()) == static_cast<int>(code));
    return error.what();
  }
  return "(no error)";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace atelier::test
