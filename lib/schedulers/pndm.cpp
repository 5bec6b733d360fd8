// PNDM: pseudo linear multistep, started by Runge-Kutta steps or, as Stable Diffusion does (skip_prk_steps), by doing the first
// step twice (diffusers' PNDM).
#include <algorithm>
#include <deque>

#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include "base/error.h"
#include "schedulers/alpha_scheduler.h"
#include "schedulers/make.h"

namespace atelier::schedulers {
namespace {

class Pndm : public AlphaScheduler {
 public:
  using AlphaScheduler::AlphaScheduler;

 protected:
  void plan(std::int64_t steps, const TimestepOptions&) override {
    check_steps(steps);
    stride_ = config_.num_train_timesteps / steps;
    const std::vector<double> spaced = whole_timesteps(steps);
    timesteps_.clear();
    runge_kutta_ = 0;
    if (config_.skip_prk_steps) {
      timesteps_ = spaced;
      if (spaced.size() > 1) timesteps_.insert(timesteps_.begin() + 1, spaced[1]);  // the second one twice
    } else {
      plan_runge_kutta(spaced);
    }
    evaluated_ = 0;
    history_.clear();
    sum_ = start_ = at::Tensor();
  }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource&) override {
    denoised_ = estimate(model_output, sample, alpha(timestep(index))).original;
    const at::Tensor next = evaluated_ < runge_kutta_ ? runge_kutta(model_output, timestep(index), sample)
                                                      : multistep(model_output, timestep(index), sample);
    ++evaluated_;
    return next;
  }

 private:
  /// Three steps of four evaluations each: at t, twice halfway to the next, and there.
  void plan_runge_kutta(const std::vector<double>& spaced) {
    constexpr std::size_t kSteps = 4;
    if (spaced.size() < kSteps) {
      throw base::Error(base::ExitCode::usage, fmt::format("{} steps: {} without skip_prk_steps needs at least 4",
                                                           spaced.size(), class_name(config_.kind)));
    }
    std::vector<double> stages;  // each of the first four timesteps, and half a stride before it
    for (std::size_t i = 0; i < kSteps; ++i) {
      stages.push_back(spaced[i] + static_cast<double>(stride_ / 2));
      stages.push_back(spaced[i]);
    }
    stages.erase(stages.begin());
    for (std::size_t i = 0; i < stages.size(); ++i) {
      timesteps_.push_back(stages[i]);
      if (i > 0 && i + 1 < stages.size()) timesteps_.push_back(stages[i]);
    }
    runge_kutta_ = timesteps_.size();
    timesteps_.insert(timesteps_.end(), spaced.begin() + 3, spaced.end());
  }

  at::Tensor runge_kutta(const at::Tensor& model_output, std::int64_t t, const at::Tensor& sample) {
    const std::size_t stage = evaluated_ % 4;
    const std::int64_t next = t - (stage % 2 == 1 ? 0 : stride_ / 2);
    at::Tensor direction = model_output;
    if (stage == 0) {
      sum_ = 1.0 / 6 * model_output;
      history_.push_back(model_output);
      start_ = sample;
    } else if (stage < 3) {
      sum_ = sum_ + 1.0 / 3 * model_output;
    } else {
      direction = sum_ + 1.0 / 6 * model_output;
    }
    const std::int64_t from = timestep(evaluated_ / 4 * 4);
    return transfer(start_.defined() ? start_ : sample, from, next, direction);
  }

  at::Tensor multistep(const at::Tensor& model_output, std::int64_t t, const at::Tensor& given) {
    std::int64_t next = t - stride_;
    at::Tensor sample = given, direction = model_output;
    if (evaluated_ != 1) {
      while (history_.size() > 3) history_.pop_front();
      history_.push_back(model_output);
    } else {
      next = t;  // the first step once more, now knowing where it leads
      t += stride_;
    }
    const auto last = [&](std::size_t back) { return history_[history_.size() - 1 - back]; };
    if (history_.size() == 1 && evaluated_ == 0) {
      start_ = sample;
    } else if (history_.size() == 1 && evaluated_ == 1) {
      direction = (model_output + last(0)) / 2;
      sample = start_;
      start_ = at::Tensor();
    } else if (history_.size() == 2) {
      direction = (3 * last(0) - last(1)) / 2;
    } else if (history_.size() == 3) {
      direction = (23 * last(0) - 16 * last(1) + 5 * last(2)) / 12;
    } else {
      direction = 1.0 / 24 * (55 * last(0) - 59 * last(1) + 37 * last(2) - 9 * last(3));
    }
    return transfer(sample, t, next, direction);
  }

  /// Formula (9) of the paper: from timestep to timestep along the model's noise.
  at::Tensor transfer(const at::Tensor& sample, std::int64_t from, std::int64_t to, const at::Tensor& output) const {
    const at::Tensor now = alpha(from), next = alpha(to), beta_now = 1 - now, beta_next = 1 - next;
    const at::Tensor noise =
        config_.prediction == Prediction::v ? now.pow(0.5) * output + beta_now.pow(0.5) * sample : output;
    const at::Tensor scale = now * beta_next.pow(0.5) + (now * beta_now * next).pow(0.5);
    return (next / now).pow(0.5) * sample - (next - now) * noise / scale;
  }

  std::int64_t stride_ = 0;
  std::size_t runge_kutta_ = 0, evaluated_ = 0;  // evaluations of the start, and so far
  std::deque<at::Tensor> history_;               // outputs, the newest last
  at::Tensor sum_, start_;
};

}  // namespace

std::unique_ptr<Scheduler> make_pndm(const Config& config) { return std::make_unique<Pndm>(config); }

}  // namespace atelier::schedulers
