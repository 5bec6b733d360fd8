// Learning rates against transformers' get_scheduler; goldens from scripts/fixtures/train.py.
#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include "base/json.h"
#include "support/errors.h"
#include "train/schedule.h"

using namespace atelier;
using namespace atelier::train;
using base::ExitCode;
using test::error_of;

TEST_CASE("every step's factor equals transformers'") {
  const base::Json cases = base::read_json_file(std::string(ATELIER_TEST_DATA) + "/train/schedules.json");
  CHECK(cases.size() == 12);
  for (const base::Json& item : cases) {
    const base::Json& given = item["options"];
    CAPTURE(given.dump());
    ScheduleOptions options;
    options.kind = schedule_kind(given["kind"].get<std::string>());
    options.steps = given["steps"];
    options.warmup_steps = given.value("warmup_steps", 0);
    options.cycles = given.value("cycles", 1);
    options.floor = given.value("floor", 0.0);
    options.power = given.value("power", 1.0);
    options.decay_steps = given.value("decay_steps", 0);
    options.timescale = given.value("timescale", 0);
    check_schedule(options);
    for (std::size_t step = 0; step < item["factors"].size(); ++step) {
      CAPTURE(step);
      CHECK(std::abs(schedule_factor(options, static_cast<std::int64_t>(step)) - item["factors"][step].get<double>()) <
            1e-12);
    }
  }
}

TEST_CASE("restarts end at the floor, each of them") {
  const ScheduleOptions options{.kind = ScheduleKind::cosine, .steps = 40, .cycles = 2, .floor = 0.25};
  CHECK(schedule_factor(options, 0) == 1);
  CHECK(schedule_factor(options, 10) == doctest::Approx(0.625));
  CHECK(schedule_factor(options, 19) < 0.26);
  CHECK(schedule_factor(options, 20) == 1);
  CHECK(schedule_factor(options, 40) == 0.25);
  CHECK(schedule_factor(options, 1000) == 0.25);
}

TEST_CASE("--warmup is a share or a number of steps") {
  CHECK(warmup_steps(0, 100) == 0);
  CHECK(warmup_steps(0.03, 50) == 2);
  CHECK(warmup_steps(7, 50) == 7);
  for (const double bad : {-0.1, 1.5, 51.0, std::nan("")}) error_of(ExitCode::usage, [&] { warmup_steps(bad, 50); });
}

TEST_CASE("phases that do not fit are refused") {
  const auto refused = [](ScheduleOptions options) {
    return error_of(ExitCode::usage, [&] { check_schedule(options); });
  };
  CHECK(refused({}) == "learning rate schedule: the number of steps must be above 0");
  CHECK(refused({.steps = 5, .warmup_steps = 6}) == "learning rate schedule: the warm-up is longer than the run");
  CHECK(refused({.steps = 5, .cycles = 0}) != "(no error)");
  CHECK(refused({.steps = 5, .floor = 1.5}) != "(no error)");
  CHECK(refused({.steps = 5, .power = 0}) != "(no error)");
  CHECK(refused({.steps = 5, .warmup_steps = 3, .decay_steps = 3}) != "(no error)");
  CHECK(error_of(ExitCode::usage, [] { schedule_kind("cosin"); }) == "unknown learning rate schedule \"cosin\"");
}
