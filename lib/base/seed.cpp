#include "base/seed.h"

namespace atelier::base {

std::uint64_t draw_seed() {
  std::random_device source;
  const std::uint64_t high = source();
  return (high << 32 | source()) >> 11;
}

}  // namespace atelier::base
