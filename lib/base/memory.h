#pragma once

#include <cstdint>
#include <string_view>

namespace atelier::base {

/// Highest resident set size of this process so far, in bytes (getrusage).
std::uint64_t peak_rss_bytes();

/// "4G", "512M", "1.5GiB", "800000000", "2 GB" -> bytes. K, M, G, T (and KiB ...) are powers of 1024; KB, MB, GB, TB of
/// 1000. Throws Error(usage).
std::uint64_t parse_bytes(std::string_view text);

}  // namespace atelier::base
