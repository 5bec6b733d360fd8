// DDPM and DDIM (diffusers' DDPM and DDIM).
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>

#include "base/error.h"
#include "schedulers/alpha_scheduler.h"
#include "schedulers/make.h"

namespace atelier::schedulers {
namespace {

class Ddim : public AlphaScheduler {
 public:
  Ddim(const Config& config, double eta) : AlphaScheduler(config), eta_(eta) {}
  bool stochastic() const override { return eta_ > 0; }

 protected:
  void plan(std::int64_t steps, const TimestepOptions&) override {
    check_steps(steps);
    timesteps_ = whole_timesteps(steps);
  }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource& noise) override {
    // Not the next of timesteps(): the reference takes even strides, whatever the spacing.
    const at::Tensor now = alpha(timestep(index)), next = alpha(timestep(index) - config_.num_train_timesteps / steps_);
    const Estimate at_now = estimate(model_output, sample, now);
    denoised_ = limit_sample(config_, at_now.original);
    const at::Tensor variance = (1 - next) / (1 - now) * (1 - now / next);
    const at::Tensor deviation = eta_ * variance.pow(0.5);
    const at::Tensor direction = (1 - next - deviation.pow(2)).pow(0.5) * at_now.noise;
    const at::Tensor mean = next.pow(0.5) * denoised_ + direction;
    if (eta_ <= 0) return mean;
    const at::Tensor drawn = noise.normal(model_output.sizes(), model_output.scalar_type()).to(model_output.device());
    return mean + deviation * drawn;
  }

 private:
  double eta_;
};

class Ddpm : public AlphaScheduler {
 public:
  explicit Ddpm(const Config& config) : AlphaScheduler(config) { final_ = at::ones({}, at::kFloat); }
  bool stochastic() const override { return true; }

 protected:
  void plan(std::int64_t steps, const TimestepOptions&) override {
    check_steps(steps);
    timesteps_ = whole_timesteps(steps);
  }

  at::Tensor advance(const at::Tensor& given_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource& noise) override {
    const auto [model_output, learned] = split(given_output, sample);
    const bool last = index + 1 == timesteps_.size();
    const at::Tensor now = alpha(timestep(index)), next = last ? final_ : alpha(timestep(index + 1));
    const at::Tensor beta_now = 1 - now, beta_next = 1 - next, alpha_step = now / next, beta_step = 1 - alpha_step;
    denoised_ = limit_sample(config_, estimate(model_output, sample, now).original);
    const at::Tensor mean =
        next.pow(0.5) * beta_step / beta_now * denoised_ + alpha_step.pow(0.5) * beta_next / beta_now * sample;
    if (timestep(index) == 0) return mean;
    const at::Tensor drawn = noise.normal(model_output.sizes(), model_output.scalar_type()).to(model_output.device());
    return mean + deviation(now, next, learned) * drawn;
  }

 private:
  bool learns() const { return config_.variance == Variance::learned || config_.variance == Variance::learned_range; }

  /// A model that learned its variance gives twice the channels.
  std::pair<at::Tensor, at::Tensor> split(const at::Tensor& output, const at::Tensor& sample) const {
    const std::int64_t channels = sample.size(1);
    if (!learns()) return {output, at::Tensor()};
    if (output.size(1) != 2 * channels) {
      throw base::Error(base::ExitCode::data,
                        "the scheduler's variance_type is learned, but the model gives no variance");
    }
    return {output.narrow(1, 0, channels), output.narrow(1, channels, channels)};
  }

  at::Tensor deviation(const at::Tensor& now, const at::Tensor& next, const at::Tensor& learned) const {
    const at::Tensor beta_step = 1 - now / next;
    const at::Tensor variance = ((1 - next) / (1 - now) * beta_step).clamp_min(1e-20);
    switch (config_.variance) {
      case Variance::fixed_small_log: return (0.5 * variance.log()).exp();
      case Variance::fixed_large: return beta_step.pow(0.5);
      case Variance::learned: return learned.pow(0.5);
      case Variance::learned_range: {
        const at::Tensor share = (learned + 1) / 2;
        return (0.5 * (share * beta_step.log() + (1 - share) * variance.log())).exp();
      }
      default: return variance.pow(0.5);
    }
  }
};

}  // namespace

std::unique_ptr<Scheduler> make_ddim(const Config& config, double eta) { return std::make_unique<Ddim>(config, eta); }
std::unique_ptr<Scheduler> make_ddpm(const Config& config) { return std::make_unique<Ddpm>(config); }

}  // namespace atelier::schedulers
