#include "train/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"

namespace atelier::train {
namespace {

using base::Error;
using base::ExitCode;

const std::array<std::string, 6> kNames{"constant", "linear", "cosine", "polynomial", "inverse_sqrt", "wsd"};

void require(bool good, const char* message) {
  if (!good) throw Error(ExitCode::usage, std::string("learning rate schedule: ") + message);
}

double share(std::int64_t part, std::int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(std::max<std::int64_t>(1, whole));
}

double above_floor(double factor, double floor) { return factor * (1 - floor) + floor; }

double half_cosine(double progress) { return 0.5 * (1 + std::cos(std::numbers::pi * progress)); }

double inverse_sqrt(const ScheduleOptions& options, std::int64_t step) {
  std::int64_t scale = options.timescale > 0 ? options.timescale : options.warmup_steps;
  if (scale == 0) scale = 10000;
  return 1 / std::sqrt(static_cast<double>(step - options.warmup_steps + scale) / static_cast<double>(scale));
}

double stable_then_decay(const ScheduleOptions& options, std::int64_t step) {
  const std::int64_t begin = options.steps - options.decay_steps;
  if (step < begin) return 1;
  if (step >= options.steps) return options.floor;
  return above_floor(half_cosine(share(step - begin, options.decay_steps)), options.floor);
}

}  // namespace

ScheduleKind schedule_kind(std::string_view name) {
  const auto place = std::find(kNames.begin(), kNames.end(), name);
  if (place != kNames.end()) return static_cast<ScheduleKind>(place - kNames.begin());
  const std::string close = base::nearest(name, kNames);
  throw Error(
      ExitCode::usage, fmt::format("unknown learning rate schedule {}", base::in_quotes(name)),
      close.empty() ? fmt::format("one of {}", fmt::join(kNames, ", ")) : fmt::format("did you mean {}?", close));
}

void check_schedule(const ScheduleOptions& options) {
  require(options.steps > 0, "the number of steps must be above 0");
  require(options.warmup_steps >= 0 && options.warmup_steps <= options.steps, "the warm-up is longer than the run");
  require(options.cycles >= 1, "the number of cycles must be at least 1");
  require(options.floor >= 0 && options.floor <= 1, "the floor must lie between 0 and 1");
  require(options.power > 0 && std::isfinite(options.power), "the power must be above 0");
  require(options.timescale >= 0, "the time scale must not be negative");
  require(options.decay_steps >= 0 && options.decay_steps <= options.steps - options.warmup_steps,
          "warm-up and decay are longer than the run");
}

double schedule_factor(const ScheduleOptions& options, std::int64_t step) {
  if (step < options.warmup_steps) {
    const double rise = share(step, options.warmup_steps);
    return options.kind == ScheduleKind::warmup_stable_decay ? above_floor(rise, options.floor) : rise;
  }
  const double progress = std::min(1.0, share(step - options.warmup_steps, options.steps - options.warmup_steps));
  switch (options.kind) {
    case ScheduleKind::constant: return 1;
    case ScheduleKind::linear: return 1 - progress;
    case ScheduleKind::polynomial: return above_floor(std::pow(1 - progress, options.power), options.floor);
    case ScheduleKind::inverse_sqrt: return inverse_sqrt(options, step);
    case ScheduleKind::warmup_stable_decay: return stable_then_decay(options, step);
    case ScheduleKind::cosine: break;
  }
  if (progress >= 1) return options.floor;
  return above_floor(half_cosine(std::fmod(static_cast<double>(options.cycles) * progress, 1.0)), options.floor);
}

std::int64_t warmup_steps(double warmup, std::int64_t steps) {
  require(std::isfinite(warmup) && warmup >= 0, "the warm-up must not be negative");
  if (warmup < 1) return static_cast<std::int64_t>(std::ceil(warmup * static_cast<double>(steps)));
  require(warmup == std::floor(warmup), "a warm-up of 1 or more is a whole number of steps");
  require(warmup <= static_cast<double>(steps), "the warm-up is longer than the run");
  return static_cast<std::int64_t>(warmup);
}

}  // namespace atelier::train
