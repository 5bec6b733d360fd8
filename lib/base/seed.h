#pragma once

#include <cstdint>
#include <random>

namespace atelier::base {

/// A seed from the operating system, for runs without --seed; below 2^53, so that every JSON reader keeps it exact.
std::uint64_t draw_seed();

/// Deterministic generator of one result: result i of a run uses seed N + i.
using Generator = std::mt19937_64;

/// Uniform in [0, 1) with 53 bits; the same on every platform (std::uniform_real_distribution is not).
inline double uniform(Generator& generator) { return static_cast<double>(generator() >> 11) * 0x1.0p-53; }

}  // namespace atelier::base
