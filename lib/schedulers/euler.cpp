// Euler's method, plain and ancestral (diffusers' EulerDiscrete and EulerAncestralDiscrete).
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/linspace.h>

#include "schedulers/common.h"
#include "schedulers/make.h"

namespace atelier::schedulers {
namespace {

class Euler : public SigmaScheduler {
 public:
  using SigmaScheduler::SigmaScheduler;

 protected:
  void plan(std::int64_t steps, const TimestepOptions&) override {
    Levels run = config_.log_linear_interpolation ? log_linear(steps) : levels(steps);
    run.sigmas.push_back(config_.final_sigma_zero ? 0 : training_sigmas_[0].item<double>());
    sigmas_ = to_float32(run.sigmas);
    timesteps_ = run.timesteps;
    for (double& t : timesteps_) t = static_cast<float>(t);
    if (config_.continuous_timesteps && config_.prediction == Prediction::v) {
      timesteps_ = to_vector(0.25 * sigmas_.slice(0, 0, -1).log());
    }
  }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& given,
                     NoiseSource&) override {
    const at::Tensor sample = given.to(at::kFloat), now = sigma(index);
    denoised_ = denoise(model_output, sample, now);
    const at::Tensor derivative = (sample - denoised_) / now;
    return (sample + derivative * (sigma(index + 1) - now)).to(model_output.scalar_type());
  }

 private:
  /// One sigma more than timesteps, evenly spaced in the logarithm, before any conversion.
  Levels log_linear(std::int64_t steps) const {
    const std::vector<double> training = to_vector(training_sigmas_);
    Levels run;
    run.timesteps = spaced_timesteps(config_, steps);
    const auto log32 = [](double value) { return static_cast<double>(std::log(static_cast<float>(value))); };
    run.sigmas = to_vector(at::linspace(log32(training.back()), log32(training.front()), steps + 1, at::kFloat).exp());
    if (config_.conversion != Conversion::none) {
      run.sigmas = convert_sigmas(config_, run.sigmas, steps);
      run.timesteps = to_timestep_(run.sigmas);
    }
    return run;
  }
};

class EulerAncestral : public SigmaScheduler {
 public:
  using SigmaScheduler::SigmaScheduler;
  bool stochastic() const override { return true; }

 protected:
  void plan(std::int64_t steps, const TimestepOptions&) override {
    Levels run = levels(steps);
    run.sigmas.push_back(0);
    sigmas_ = to_float32(run.sigmas);
    timesteps_ = run.timesteps;
    for (double& t : timesteps_) t = static_cast<float>(t);
  }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& given,
                     NoiseSource& noise) override {
    const at::Tensor sample = given.to(at::kFloat), from = sigma(index), to = sigma(index + 1);
    denoised_ = denoise(model_output, sample, from);
    // Down further than `to` without noise, then up again with it.
    const at::Tensor up = (to.pow(2) * (from.pow(2) - to.pow(2)) / from.pow(2)).pow(0.5);
    const at::Tensor down = (to.pow(2) - up.pow(2)).pow(0.5);
    const at::Tensor derivative = (sample - denoised_) / from;
    const at::Tensor drawn = noise.normal(model_output.sizes(), model_output.scalar_type()).to(model_output.device());
    return (sample + derivative * (down - from) + drawn * up).to(model_output.scalar_type());
  }
};

}  // namespace

std::unique_ptr<Scheduler> make_euler(const Config& config) { return std::make_unique<Euler>(config); }
std::unique_ptr<Scheduler> make_euler_ancestral(const Config& config) {
  return std::make_unique<EulerAncestral>(config);
}

}  // namespace atelier::schedulers
