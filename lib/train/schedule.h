#pragma once

#include <cstdint>
#include <string_view>

namespace atelier::train {

enum class ScheduleKind { constant, linear, cosine, polynomial, inverse_sqrt, warmup_stable_decay };

/// "constant", "linear", "cosine", "polynomial", "inverse_sqrt", "wsd"; Error(usage) naming the nearest one otherwise.
ScheduleKind schedule_kind(std::string_view name);

/// A rate as a function of the step alone, so that nothing of it has to be saved.
struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::cosine;
  std::int64_t steps = 0;         ///< of the whole run, warm-up included
  std::int64_t warmup_steps = 0;  ///< from 0 (wsd: from the floor) linearly to 1
  std::int64_t cycles = 1;        ///< cosine: 1 plus the number of hard restarts
  double floor = 0;               ///< share of the rate that cosine, polynomial and wsd end at
  double power = 1;               ///< polynomial
  std::int64_t decay_steps = 0;   ///< wsd: length of the last phase (a cosine)
  std::int64_t timescale = 0;  ///< inverse_sqrt: steps after which the rate falls as 1/sqrt; 0: warmup_steps, or 10,000
};

/// Error(usage): a count below 0, a floor outside [0, 1], a power not above 0, phases longer than the run.
void check_schedule(const ScheduleOptions& options);

/// What the rate of step `step` (from 0) is multiplied by, in [0, 1]. Equal to transformers' get_scheduler: constant
/// (with warm-up), linear, cosine (one cycle), cosine_with_restarts, cosine_with_min_lr, polynomial (lr_end = floor x
/// lr), inverse_sqrt, warmup_stable_decay. From the last step on: the floor (linear: 0). Precondition: check_schedule.
double schedule_factor(const ScheduleOptions& options, std::int64_t step);

/// --warmup: below 1 a share of `steps`, rounded up as transformers' warmup_ratio; else a number of steps.
/// Error(usage): negative, not whole, more than `steps`.
std::int64_t warmup_steps(double warmup, std::int64_t steps);

}  // namespace atelier::train
