#pragma once

#include <cstdint>
#include <string>

namespace atelier::test {

/// The input that belongs to a seed; each fuzz target brings its own. runner.cpp feeds them to the target.
std::string fuzz_input(std::uint64_t seed);

}  // namespace atelier::test
