#include "base/memory.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/error.h"

namespace atelier::base {
namespace {

// Bytes of one unit: "" and "B", else K, M, G or T with "B" (powers of 1000), "iB" or nothing (powers of 1024); 0 where
// unknown.
std::uint64_t unit_bytes(std::string_view unit) {
  std::string lower;
  for (const char c : unit) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (lower.empty() || lower == "b") return 1;
  const std::size_t power = std::string_view("kmgt").find(lower[0]);
  if (power == std::string_view::npos) return 0;
  const std::string rest = lower.substr(1);
  if (!rest.empty() && rest != "b" && rest != "ib") return 0;
  const std::uint64_t base = rest == "b" ? 1000 : 1024;
  std::uint64_t bytes = base;
  for (std::size_t i = 0; i < power; ++i) bytes *= base;
  return bytes;
}

}  // namespace

std::uint64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;  // Linux counts in KiB
}

void keep_large_blocks() {
#ifdef __GLIBC__
  const auto pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return;
  malloc_trim(0);
  mallopt(M_ARENA_MAX, 1);  // threads to come, the one of backward among them, share the heap: their own ones cannot grow this large
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  // Addresses for all that may come, without memory behind them: huge pages are asked for once.
  for (std::size_t room = static_cast<std::size_t>(pages) * static_cast<std::size_t>(page); room >= std::size_t{64} << 20; room /= 2) {
    const std::unique_ptr<void, decltype(&std::free)> block(std::malloc(room), &std::free);
    if (!block) continue;
    constexpr std::uintptr_t huge = std::uintptr_t{2} << 20;
    const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(block.get()) + huge - 1) / huge * huge;
    const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(block.get()) + room) / huge * huge;
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
    return;
  }
#endif
}

std::uint64_t parse_bytes(std::string_view text) {
  const auto refuse = [&](const char* why) {
    return Error(ExitCode::usage, fmt::format("\"{}\" {}; write it like 4G, 512M, 1.5GiB or 800000000", text, why));
  };
  const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::string_view number = text.substr(0, digits);
  std::string_view unit = text.substr(digits);
  if (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  const std::uint64_t scale = unit_bytes(unit);
  if (scale == 0 || number.empty()) throw refuse("is not a size");

  std::uint64_t whole = 0;
  const auto exact = std::from_chars(number.data(), number.data() + number.size(), whole);
  if (exact.ptr == number.data() + number.size()) {
    const auto bytes = exact.ec == std::errc{} ? checked_mul(whole, scale) : std::nullopt;
    if (!bytes) throw refuse("is too large");
    return *bytes;
  }
  double fraction = 0;
  const auto inexact =
      std::from_chars(number.data(), number.data() + number.size(), fraction, std::chars_format::fixed);
  if (inexact.ec != std::errc{} || inexact.ptr != number.data() + number.size()) throw refuse("is not a size");
  const double bytes = std::floor(fraction * static_cast<double>(scale));
  if (!(bytes < 0x1p64)) throw refuse("is too large");
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace atelier::base
