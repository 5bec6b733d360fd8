#include "schedulers/scheduler.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"

namespace atelier::schedulers {

void Scheduler::set_timesteps(std::int64_t steps, const TimestepOptions& options) {
  constexpr std::int64_t kMost = 100000;
  if (steps < 1 || steps > kMost) {
    throw base::Error(base::ExitCode::usage, fmt::format("{} steps, expected 1 to {}", steps, kMost));
  }
  steps_ = steps;
  denoised_ = at::Tensor();
  next_.reset();
  plan(steps, options);
}

std::size_t Scheduler::start_index(double strength) const {
  const std::int64_t wanted = std::min(static_cast<std::int64_t>(static_cast<double>(steps_) * strength), steps_);
  const std::int64_t skipped = std::clamp<std::int64_t>(steps_ - wanted, 0, steps_) * order();
  return std::min(static_cast<std::size_t>(skipped), timesteps_.size());
}

at::Tensor Scheduler::scale_model_input(const at::Tensor& sample, std::size_t) const { return sample; }

at::Tensor Scheduler::step(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                           NoiseSource& noise) {
  if (index >= timesteps_.size() || (next_ && index != *next_)) {
    throw base::Error(base::ExitCode::internal, fmt::format("scheduler step {} out of order", index));
  }
  next_ = index + 1;
  return advance(model_output, index, sample, noise);
}

std::optional<double> Scheduler::shift_mu(std::int64_t) const { return std::nullopt; }

}  // namespace atelier::schedulers
