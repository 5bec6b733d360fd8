// The heap for large blocks. It changes the allocator of the process, so a process of its own tries it.
#include "base/memory.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

namespace {

long faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

/// Pages that came in while 100 MiB were taken, filled and given back.
long take_and_give_back() {
  constexpr std::size_t size = std::size_t{100} << 20;
  const long before = faults();
  const std::unique_ptr<char, decltype(&std::free)> block(static_cast<char*>(std::malloc(size)), &std::free);
  if (!block) return -1;
  std::memset(block.get(), 1, size);
  asm volatile("" : : "r"(block.get()) : "memory");  // else the compiler sees that nobody reads it, and takes nothing
  return faults() - before;
}

TEST_CASE("large blocks come back without new pages, in later threads too") {
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)  // that brings an allocator of its own
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    atelier::base::keep_large_blocks();
    take_and_give_back();
    const long here = take_and_give_back();
    long there = -1;
    std::thread([&] { there = take_and_give_back(); }).join();
    _exit(here >= 0 && here < 100 && there >= 0 && there < 100 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
#endif
}

}  // namespace
