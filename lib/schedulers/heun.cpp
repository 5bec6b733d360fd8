// Heun's method and DPM-Solver-2: two model evaluations for each step but the last (diffusers' HeunDiscrete, KDPM2Discrete and
// KDPM2AncestralDiscrete).
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/lerp.h>
#include <ATen/ops/roll.h>

#include "schedulers/common.h"
#include "schedulers/make.h"

namespace atelier::schedulers {
namespace {

/// The first value, then each of the others up to `last` twice, then the rest once.
at::Tensor repeat_inner(const at::Tensor& values, std::int64_t last) {
  return at::cat({values.slice(0, 0, 1), values.slice(0, 1, last).repeat_interleave(2), values.slice(0, -1)});
}

class Heun : public SigmaScheduler {
 public:
  using SigmaScheduler::SigmaScheduler;
  std::int64_t order() const override { return 2; }

 protected:
  void plan(std::int64_t steps, const TimestepOptions&) override {
    Levels run = levels(steps);
    timesteps_ = doubled(run.timesteps);
    for (double& t : timesteps_) t = static_cast<float>(t);
    run.sigmas.push_back(0);
    sigmas_ = repeat_inner(to_float32(run.sigmas), -1);
    first_derivative_ = first_sample_ = at::Tensor();
  }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource&) override {
    const bool first = !first_derivative_.defined();
    const at::Tensor now = sigma(index);  // in the second half: where the first half arrived
    denoised_ = denoise(model_output, sample, now);
    if (config_.clip_sample) denoised_ = denoised_.clamp(-config_.clip_sample_range, config_.clip_sample_range);
    const at::Tensor derivative = (sample - denoised_) / now;
    if (first) {
      first_derivative_ = derivative;
      first_sample_ = sample;
      return sample + derivative * (sigma(index + 1) - now);
    }
    const at::Tensor next = first_sample_ + (first_derivative_ + derivative) / 2 * (now - sigma(index - 1));
    first_derivative_ = first_sample_ = at::Tensor();
    return next;
  }

 private:
  at::Tensor first_derivative_, first_sample_;  // between the halves of a step
};

/// Shared by both DPM-Solver-2: the first half goes to a sigma in between, the second evaluates there and makes the whole step.
class TwoStage : public SigmaScheduler {
 public:
  using SigmaScheduler::SigmaScheduler;
  std::int64_t order() const override { return 2; }

  at::Tensor scale_model_input(const at::Tensor& sample, std::size_t index) const override {
    const at::Tensor now = first_half() ? sigma(index) : between(index);
    return sample / (now.pow(2) + 1).pow(0.5);
  }

 protected:
  bool first_half() const { return !first_sample_.defined(); }
  /// The sigma of the second half whose index this is.
  virtual at::Tensor between(std::size_t index) const = 0;

  Levels rounded_levels(std::int64_t steps) const {
    Levels run = levels(steps);
    if (config_.conversion == Conversion::karras) {
      for (double& t : run.timesteps) t = round_even(t);
    }
    return run;
  }

  /// run.timesteps with those of `between` in their gaps. The reference computes the latter in float32.
  void interleave(const Levels& run, const at::Tensor& between) {
    const std::vector<double> sigmas = to_vector(between);
    timesteps_.clear();
    for (std::size_t i = 0; i < run.timesteps.size(); ++i) {
      if (i > 0) timesteps_.push_back(static_cast<float>(to_timestep_(sigmas[i - 1])));
      timesteps_.push_back(config_.conversion == Conversion::none ? static_cast<float>(run.timesteps[i])
                                                                  : run.timesteps[i]);
    }
  }

  at::Tensor first_sample_;  // between the halves of a step
};

class Kdpm2 : public TwoStage {
 public:
  using TwoStage::TwoStage;

 protected:
  void plan(std::int64_t steps, const TimestepOptions&) override {
    Levels run = rounded_levels(steps);
    std::vector<double> with_end = run.sigmas;
    with_end.push_back(0);
    const at::Tensor sigmas = to_float32(with_end);
    // Halfway in the logarithm between each sigma and the one before it.
    const at::Tensor halfway = sigmas.log().lerp(sigmas.roll(1).log(), 0.5).exp();
    interleave(run, halfway.slice(0, 1));
    sigmas_ = repeat_inner(sigmas, sigmas.size(0));
    between_ = repeat_inner(halfway, halfway.size(0));
    first_sample_ = at::Tensor();
  }

  at::Tensor between(std::size_t index) const override { return between_[static_cast<std::int64_t>(index)]; }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource&) override {
    if (first_half()) {
      const at::Tensor now = sigma(index);
      denoised_ = denoise(model_output, sample, now);
      const at::Tensor derivative = (sample - denoised_) / now;
      // The run's last sigma is 0, and so is what lies between it and its neighbour: this half is then the whole step.
      first_sample_ = sample;
      return sample + derivative * (between(index + 1) - now);
    }
    const at::Tensor now = between(index);
    denoised_ = denoise(model_output, sample, now);
    const at::Tensor derivative = (sample - denoised_) / now;
    const at::Tensor next = first_sample_ + derivative * (sigma(index) - sigma(index - 1));
    first_sample_ = at::Tensor();
    return next;
  }

 private:
  at::Tensor between_;
};

class Kdpm2Ancestral : public TwoStage {
 public:
  using TwoStage::TwoStage;
  bool stochastic() const override { return true; }

 protected:
  void plan(std::int64_t steps, const TimestepOptions&) override {
    Levels run = rounded_levels(steps);
    std::vector<double> with_end = run.sigmas;
    with_end.push_back(0);
    const at::Tensor sigmas = to_float32(with_end);
    at::Tensor next = sigmas.roll(-1);
    next[-1].fill_(0);
    const at::Tensor up = (next.pow(2) * (sigmas.pow(2) - next.pow(2)) / sigmas.pow(2)).pow(0.5);
    at::Tensor down = (next.pow(2) - up.pow(2)).pow(0.5);
    down[-1].fill_(0);
    at::Tensor halfway = sigmas.log().lerp(down.log(), 0.5).exp();
    halfway.slice(0, -2).fill_(0);
    interleave(run, halfway);
    sigmas_ = repeat_inner(sigmas, sigmas.size(0));
    between_ = repeat_inner(halfway, halfway.size(0));
    up_ = repeat_inner(up, up.size(0));
    down_ = repeat_inner(down, down.size(0));
    first_sample_ = at::Tensor();
  }

  at::Tensor between(std::size_t index) const override { return between_[static_cast<std::int64_t>(index) - 1]; }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource& noise) override {
    if (first_half()) {
      const at::Tensor now = sigma(index);
      denoised_ = denoise(model_output, sample, now);
      const at::Tensor derivative = (sample - denoised_) / now;
      first_sample_ = sample;
      return sample + derivative * (between(index + 1) - now);
    }
    const auto before = static_cast<std::int64_t>(index) - 1;
    const at::Tensor now = between(index);
    denoised_ = denoise(model_output, sample, now);
    const at::Tensor derivative = (sample - denoised_) / now;
    const at::Tensor next = first_sample_ + derivative * (down_[before] - sigmas_[before]);
    first_sample_ = at::Tensor();
    const at::Tensor drawn = noise.normal(model_output.sizes(), model_output.scalar_type()).to(model_output.device());
    return next + drawn * up_[before];
  }

 private:
  at::Tensor between_, up_, down_;
};

}  // namespace

std::unique_ptr<Scheduler> make_heun(const Config& config) { return std::make_unique<Heun>(config); }
std::unique_ptr<Scheduler> make_kdpm2(const Config& config) { return std::make_unique<Kdpm2>(config); }
std::unique_ptr<Scheduler> make_kdpm2_ancestral(const Config& config) {
  return std::make_unique<Kdpm2Ancestral>(config);
}

}  // namespace atelier::schedulers
