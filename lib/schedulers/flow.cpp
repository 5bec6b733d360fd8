// Samplers of flow-matching models, which lead along straight lines from noise (sigma 1) to the picture (diffusers'
// FlowMatchEulerDiscrete and FlowMatchHeunDiscrete).
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

#include "base/error.h"
#include "schedulers/common.h"
#include "schedulers/flow_shift.h"
#include "schedulers/make.h"

namespace atelier::schedulers {
namespace {

at::Tensor static_shift(const at::Tensor& sigmas, double shift) { return shift * sigmas / (1 + (shift - 1) * sigmas); }

class FlowMatch : public Scheduler {
 public:
  explicit FlowMatch(const Config& config)
      : config_(config), training_(static_cast<double>(config.num_train_timesteps)) {
    // The ends of training, shifted once here and, with all that lies between them, once more in a run: so does the reference.
    ends_ = to_float32({training_, 1}) / training_;
    if (!config_.use_dynamic_shifting) ends_ = static_shift(ends_, config_.flow_shift);
  }

  at::Tensor add_noise(const at::Tensor& original, const at::Tensor& noise, std::size_t index) const override {
    const at::Tensor now = sigma(index).to(original.scalar_type());
    return now * noise + (1.0 - now) * original;
  }

  std::optional<double> shift_mu(std::int64_t image_tokens) const override {
    return flow_shift_mu(config_, image_tokens);
  }

 protected:
  at::Tensor sigma(std::size_t index) const { return sigmas_[static_cast<std::int64_t>(index)]; }
  at::Tensor even_sigmas(std::int64_t steps) const {
    const std::vector<double> ends = to_vector(ends_);
    return to_float64(linspace(ends[0] * training_, ends[1] * training_, steps)) / training_;
  }

  Config config_;
  double training_;
  at::Tensor ends_;    // float32 (2)
  at::Tensor sigmas_;  // float32
};

class FlowEuler : public FlowMatch {
 public:
  using FlowMatch::FlowMatch;
  bool stochastic() const override { return config_.stochastic_sampling; }

 protected:
  void plan(std::int64_t steps, const TimestepOptions& options) override {
    // Sigmas from the pipeline are float32 already before they are shifted.
    at::Tensor run = options.sigmas.empty() ? even_sigmas(steps) : to_float32(options.sigmas);
    run = shift_sigmas(config_, run, options.mu);
    if (config_.conversion != Conversion::none) run = to_float64(convert_sigmas(config_, to_vector(run), run.size(0)));
    run = run.to(at::kFloat);
    if (config_.invert_sigmas) run = 1.0 - run;
    timesteps_ = to_vector(run * training_);
    sigmas_ = at::cat({run, at::full({1}, config_.invert_sigmas ? 1 : 0, at::kFloat)});
  }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& given,
                     NoiseSource& noise) override {
    const at::Tensor sample = given.to(at::kFloat), now = sigma(index), next = sigma(index + 1);
    denoised_ = sample - now * model_output;
    if (!config_.stochastic_sampling) return (sample + (next - now) * model_output).to(model_output.scalar_type());
    const at::Tensor drawn = noise.normal(sample.sizes(), sample.scalar_type()).to(sample.device());
    return ((1.0 - next) * denoised_ + next * drawn).to(model_output.scalar_type());
  }
};

class FlowHeun : public FlowMatch {
 public:
  using FlowMatch::FlowMatch;
  std::int64_t order() const override { return 2; }

 protected:
  void plan(std::int64_t steps, const TimestepOptions&) override {
    const at::Tensor run = static_shift(even_sigmas(steps), config_.flow_shift).to(at::kFloat);
    timesteps_ = doubled(to_vector(run * training_));
    const at::Tensor ended = at::cat({run, at::full({1}, 0, at::kFloat)});
    sigmas_ = at::cat({ended.slice(0, 0, 1), ended.slice(0, 1, -1).repeat_interleave(2), ended.slice(0, -1)});
    first_derivative_ = first_sample_ = at::Tensor();
  }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& given,
                     NoiseSource&) override {
    const at::Tensor sample = given.to(at::kFloat), now = sigma(index);
    denoised_ = sample - model_output * now;
    const at::Tensor derivative = (sample - denoised_) / now;
    if (!first_derivative_.defined()) {
      first_derivative_ = derivative;
      first_sample_ = sample;
      return (sample + derivative * (sigma(index + 1) - now)).to(model_output.scalar_type());
    }
    const at::Tensor next = first_sample_ + 0.5 * (first_derivative_ + derivative) * (now - sigma(index - 1));
    first_derivative_ = first_sample_ = at::Tensor();
    return next.to(model_output.scalar_type());
  }

 private:
  at::Tensor first_derivative_, first_sample_;  // between the halves of a step
};

}  // namespace

at::Tensor shift_sigmas(const Config& config, const at::Tensor& sigmas, std::optional<double> mu) {
  at::Tensor shifted;
  if (config.use_dynamic_shifting) {
    if (!mu) throw base::Error(base::ExitCode::internal, "this scheduler's dynamic shifting needs mu");
    const double weight = config.linear_time_shift ? *mu : std::exp(*mu);
    shifted = weight / (weight + (1 / sigmas - 1).pow(1.0));
  } else {
    shifted = static_shift(sigmas, config.flow_shift);
  }
  if (!config.shift_terminal) return shifted;
  // Stretched so that the last one is shift_terminal.
  const at::Tensor signal = 1 - shifted;
  return 1 - signal / (signal[-1] / (1 - *config.shift_terminal));
}

std::optional<double> flow_shift_mu(const Config& config, std::int64_t image_tokens) {
  if (!config.use_dynamic_shifting) return std::nullopt;
  const double slope = (config.max_shift - config.base_shift) /
                       static_cast<double>(config.max_image_seq_len - config.base_image_seq_len);
  const double offset = config.base_shift - slope * static_cast<double>(config.base_image_seq_len);
  return static_cast<double>(image_tokens) * slope + offset;
}

std::unique_ptr<Scheduler> make_flow_euler(const Config& config) { return std::make_unique<FlowEuler>(config); }
std::unique_ptr<Scheduler> make_flow_heun(const Config& config) { return std::make_unique<FlowHeun>(config); }

}  // namespace atelier::schedulers
