// Samplers for distilled models: a few jumps to the finished picture, with noise in between (diffusers' LCM and TCD).
#include <cmath>
#include <cstddef>

#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include "base/error.h"
#include "schedulers/alpha_scheduler.h"
#include "schedulers/make.h"

namespace atelier::schedulers {
namespace {

class Consistency : public AlphaScheduler {
 public:
  using AlphaScheduler::AlphaScheduler;

 protected:
  /// n of the timesteps that distillation used, as even as whole numbers allow, from the last one on.
  void plan(std::int64_t steps, const TimestepOptions&) override {
    const std::int64_t original = config_.original_inference_steps, stride = config_.num_train_timesteps / original;
    if (steps > original) {
      throw base::Error(base::ExitCode::usage, fmt::format("{} steps: {} can make at most original_inference_steps {}",
                                                           steps, class_name(config_.kind), original));
    }
    timesteps_.clear();
    const double spacing = static_cast<double>(original) / static_cast<double>(steps);
    for (std::int64_t i = 0; i < steps; ++i) {
      const auto skipped = static_cast<std::int64_t>(std::floor(static_cast<double>(i) * spacing));
      timesteps_.push_back(static_cast<double>((original - skipped) * stride - 1));
    }
  }

  bool last(std::size_t index) const { return index + 1 == timesteps_.size(); }
};

class Lcm : public Consistency {
 public:
  using Consistency::Consistency;
  bool stochastic() const override { return true; }

 protected:
  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource& noise) override {
    const at::Tensor now = alpha(timestep(index));
    const at::Tensor original = limit_sample(config_, estimate(model_output, sample, now).original);
    // Boundary condition: at timestep 0 the model would change nothing.
    constexpr double data_variance = 0.25;
    const at::Tensor scaled = to_float32({timesteps_[index]})[0] * config_.timestep_scaling;
    const at::Tensor skip = data_variance / (scaled.pow(2) + data_variance);
    const at::Tensor out = scaled / (scaled.pow(2) + data_variance).pow(0.5);
    denoised_ = out * original + skip * sample;
    if (last(index)) return denoised_;
    const at::Tensor next = alpha(timestep(index + 1));
    const at::Tensor drawn = noise.normal(model_output.sizes(), denoised_.scalar_type()).to(model_output.device());
    return next.sqrt() * denoised_ + (1 - next).sqrt() * drawn;
  }
};

class Tcd : public Consistency {
 public:
  Tcd(const Config& config, double eta) : Consistency(config), eta_(eta) {}
  bool stochastic() const override { return eta_ > 0; }

 protected:
  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource& noise) override {
    const std::int64_t next_timestep = last(index) ? 0 : timestep(index + 1);
    // Down to s, below the next timestep, then up to that with noise.
    const auto s =
        static_cast<std::int64_t>(std::floor(static_cast<float>(1 - eta_) * static_cast<float>(next_timestep)));
    const at::Tensor next = alpha(next_timestep), at_s = alpha(s);
    const Estimate estimated = estimate(model_output, sample, alpha(timestep(index)));
    denoised_ = estimated.original;
    const at::Tensor noised = at_s.sqrt() * denoised_ + (1 - at_s).sqrt() * estimated.noise;
    if (eta_ <= 0 || last(index)) return noised;
    const at::Tensor drawn = noise.normal(model_output.sizes(), noised.scalar_type()).to(model_output.device());
    return (next / at_s).sqrt() * noised + (1 - next / at_s).sqrt() * drawn;
  }

 private:
  double eta_;
};

}  // namespace

std::unique_ptr<Scheduler> make_lcm(const Config& config) { return std::make_unique<Lcm>(config); }
std::unique_ptr<Scheduler> make_tcd(const Config& config, double eta) { return std::make_unique<Tcd>(config, eta); }

}  // namespace atelier::schedulers
