#pragma once

#include <cstdint>
#include <string_view>

namespace atelier::base {

/// Highest resident set size of this process so far, in bytes (getrusage).
std::uint64_t peak_rss_bytes();

/// For work that takes and gives back the same large blocks over and over: from now on they all come from one heap on huge pages, which
/// stays in the process. Else each block above 32 MiB is a mapping of its own, whose pages come in one by one every time. Does nothing
/// where the allocator is another than glibc's, or the system refuses.
void keep_large_blocks();

/// "4G", "512M", "1.5GiB", "800000000", "2 GB" -> bytes. K, M, G, T (and KiB ...) are powers of 1024; KB, MB, GB, TB of
/// 1000. Throws Error(usage).
std::uint64_t parse_bytes(std::string_view text);

}  // namespace atelier::base
