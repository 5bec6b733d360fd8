// Plans and sizes as people read them.
#include <doctest/doctest.h>
#include <limits>

#include "base/error.h"
#include "cli/plan.h"

using atelier::cli::human_bytes;
using atelier::cli::Plan;

TEST_CASE("sizes") {
  CHECK(human_bytes(0) == "0 bytes");
  CHECK(human_bytes(1023) == "1023 bytes");
  CHECK(human_bytes(1024) == "1.0 KiB");
  CHECK(human_bytes(6312427520) == "5.9 GiB");
  CHECK(human_bytes(512u << 20) == "512 MiB");
  CHECK(human_bytes((1u << 20) - 1) == "1.0 MiB");
  CHECK(human_bytes(std::numeric_limits<std::uint64_t>::max()) == "16.0 EiB");
}

TEST_CASE("a plan fits within its limit, and sums do not wrap") {
  Plan plan{.family = "gemma2",
            .files = {},
            .tensors = 0,
            .parameters = 0,
            .missing = {},
            .unused = {},
            .weights = 10,
            .cache = 5,
            .activations = 1,
            .max_ram = {}};
  CHECK(plan.fits());
  plan.max_ram = 16;
  CHECK(plan.fits());
  CHECK(plan_exit_code(plan) == 0);
  CHECK_NOTHROW(require_fit(plan));
  plan.max_ram = 15;
  CHECK_FALSE(plan.fits());
  CHECK(plan_exit_code(plan) == 71);
  CHECK_THROWS_AS(require_fit(plan), atelier::base::Error);
  plan.cache = std::numeric_limits<std::uint64_t>::max();
  CHECK(plan.total() == std::numeric_limits<std::uint64_t>::max());
  CHECK_FALSE(plan.fits());
}
