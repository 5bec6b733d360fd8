// DPM-Solver and DPM-Solver++ of orders 1 to 3 (diffusers' DPMSolverMultistep and DPMSolverSinglestep).
#include <algorithm>

#include <ATen/TensorOperators.h>

#include "schedulers/make.h"
#include "schedulers/solver.h"

namespace atelier::schedulers {
namespace {

/// From a level `from` to `to`: x = sample * x_from + d0 * D0 + d1 * D1 + d2 * D2 + noise * z, where the D are derivatives of
/// the model's estimate in lambda.
struct Weights {
  at::Tensor sample, d0;
  at::Tensor d1_midpoint;  // of order 2, solver_type midpoint
  at::Tensor d1, d2;
  at::Tensor noise;  // undefined without noise
};

class DpmSolver : public Solver {
 public:
  using Solver::Solver;
  bool stochastic() const override { return config_.stochastic_algorithm(); }

 protected:
  bool in_noise_space() const {
    return config_.algorithm == Algorithm::dpmsolver || config_.algorithm == Algorithm::sde_dpmsolver;
  }

  /// What the history holds: the finished sample ("++"), or the noise in it. Sets denoised_.
  at::Tensor convert(const at::Tensor& given_output, const at::Tensor& sample, std::size_t index) {
    const bool drop_variance = config_.learned_variance && config_.prediction == Prediction::epsilon;
    const at::Tensor output = drop_variance ? given_output.narrow(1, 0, 3) : given_output;
    if (!in_noise_space()) return denoised_ = original(output, sample, index);
    const Level now = level(index);
    at::Tensor noise = output;
    if (config_.prediction == Prediction::sample) noise = (sample - now.alpha * output) / now.sigma;
    if (config_.prediction == Prediction::v) noise = now.alpha * output + now.sigma * sample;
    denoised_ = (sample - now.sigma * noise) / now.alpha;
    if (!config_.thresholding) return noise;
    denoised_ = threshold_sample(config_, denoised_);
    return (sample - now.alpha * denoised_) / now.sigma;
  }

  Weights weights(const Level& from, const Level& to) const {
    const at::Tensor h = to.lambda - from.lambda;
    Weights w;
    if (config_.algorithm == Algorithm::dpmsolver_pp) {
      const at::Tensor e = (-h).exp() - 1.0;
      w.sample = to.sigma / from.sigma;
      w.d0 = -(to.alpha * e);
      w.d1_midpoint = -(0.5 * (to.alpha * e));
      w.d1 = to.alpha * (e / h + 1.0);
      w.d2 = -(to.alpha * ((e + h) / h.pow(2) - 0.5));
    } else if (config_.algorithm == Algorithm::sde_dpmsolver_pp) {
      const at::Tensor q = 1 - (-2.0 * h).exp();
      w.sample = to.sigma / from.sigma * (-h).exp();
      w.d0 = to.alpha * q;
      w.d1_midpoint = 0.5 * (to.alpha * q);
      w.d1 = to.alpha * (q / (-2.0 * h) + 1.0);
      w.d2 = to.alpha * ((q - 2.0 * h) / (2.0 * h).pow(2) - 0.5);
      w.noise = to.sigma * q.sqrt();
    } else {
      const bool sde = config_.algorithm == Algorithm::sde_dpmsolver;
      const at::Tensor e = h.exp() - 1.0;
      const double twice = sde ? 2.0 : 1.0;  // the noise that is drawn is taken out first
      w.sample = to.alpha / from.alpha;
      w.d0 = -(twice * (to.sigma * e));
      w.d1_midpoint = -(twice * 0.5 * (to.sigma * e));
      w.d1 = -(twice * (to.sigma * (e / h - 1.0)));
      w.d2 = -(to.sigma * ((e - h) / h.pow(2) - 0.5));
      if (sde) w.noise = to.sigma * ((2.0 * h).exp() - 1.0).sqrt();
    }
    return w;
  }

  bool heun() const { return config_.solver_type == SolverType::heun; }
};

at::Tensor with_noise(const at::Tensor& mean, const Weights& w, const at::Tensor& noise) {
  return w.noise.defined() ? mean + w.noise * noise : mean;
}

class Multistep : public DpmSolver {
 public:
  using DpmSolver::DpmSolver;

 protected:
  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& given,
                     NoiseSource& noise) override {
    const at::Tensor output = convert(model_output, given, index);
    remember(output);
    const at::Tensor sample = given.to(at::kFloat);
    at::Tensor drawn;
    if (stochastic()) drawn = noise.normal(output.sizes(), at::kFloat).to(output.device());
    const at::Tensor next = update(order_at(index), index, sample, drawn).to(output.scalar_type());
    warm_ = std::min(warm_ + 1, config_.solver_order);
    return next;
  }

 private:
  std::int64_t order_at(std::size_t index) const {
    const std::size_t left = timesteps_.size() - index;
    const bool first_order = left == 1 && (config_.euler_at_final || short_run() || config_.final_sigma_zero);
    if (config_.solver_order == 1 || warm_ < 1 || first_order) return 1;
    if (config_.solver_order == 2 || warm_ < 2 || (left == 2 && short_run())) return 2;
    return 3;
  }

  at::Tensor update(std::int64_t order, std::size_t index, const at::Tensor& sample, const at::Tensor& noise) const {
    const Level to = level(index + 1), from = level(index);
    const Weights w = weights(from, to);
    const at::Tensor& m0 = outputs_[0];
    at::Tensor next = w.sample * sample + w.d0 * m0;
    if (order == 1) return with_noise(next, w, noise);

    const at::Tensor h = to.lambda - from.lambda;
    const Level before = level(index - 1);
    const at::Tensor r0 = (from.lambda - before.lambda) / h, d1_0 = 1.0 / r0 * (m0 - outputs_[1]);
    if (order == 2) return with_noise(next + (heun() ? w.d1 : w.d1_midpoint) * d1_0, w, noise);

    const at::Tensor r1 = (before.lambda - level(index - 2).lambda) / h;
    const at::Tensor d1_1 = 1.0 / r1 * (outputs_[1] - outputs_[2]);
    const at::Tensor d1 = d1_0 + r0 / (r0 + r1) * (d1_0 - d1_1), d2 = 1.0 / (r0 + r1) * (d1_0 - d1_1);
    return with_noise(next + w.d1 * d1 + w.d2 * d2, w, noise);
  }
};

/// Steps in groups of two or three: the first of a group has order 1, and the others start again where the group began.
class Singlestep : public DpmSolver {
 public:
  using DpmSolver::DpmSolver;

 protected:
  void plan(std::int64_t steps, const TimestepOptions& options) override {
    DpmSolver::plan(steps, options);
    orders_ = orders(static_cast<std::int64_t>(timesteps_.size()));
    group_start_ = at::Tensor();
  }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource& noise) override {
    const at::Tensor output = convert(model_output, sample, index);
    remember(output);
    at::Tensor drawn;
    if (stochastic()) drawn = noise.normal(output.sizes(), output.scalar_type()).to(output.device());
    // img2img may start inside a group.
    const std::int64_t order = std::min(orders_[index], static_cast<std::int64_t>(outputs_.size()));
    if (order == 1) group_start_ = sample;
    return update(order, index, drawn);
  }

 private:
  std::vector<std::int64_t> orders(std::int64_t steps) const {
    const std::int64_t most = config_.solver_order;
    // A run that does not divide into groups ends with lower orders, and so does one that ends without noise.
    const bool lower = config_.lower_order_final || steps % most != 0 || config_.final_sigma_zero;
    std::vector<std::int64_t> orders;
    for (std::int64_t i = 0; i < steps; ++i) orders.push_back(i % most + 1);
    if (lower && steps % most == 0) orders.back() = 1;
    if (config_.final_sigma_zero) orders.back() = 1;
    return orders;
  }

  at::Tensor update(std::int64_t order, std::size_t index, const at::Tensor& noise) const {
    const Level to = level(index + 1);
    const std::size_t back = static_cast<std::size_t>(order) - 1;
    const Level base = level(index - back);
    const Weights w = weights(base, to);
    const at::Tensor& d0 = outputs_[back];
    const at::Tensor next = w.sample * group_start_ + w.d0 * d0;
    if (order == 1) return with_noise(next, w, noise);

    const at::Tensor h = to.lambda - base.lambda, r0 = (level(index).lambda - base.lambda) / h;
    const at::Tensor slope = 1.0 / r0 * (outputs_[0] - d0);
    if (order == 2) return with_noise(next + (heun() ? w.d1 : w.d1_midpoint) * slope, w, noise);
    if (!heun()) return with_noise(next + w.d1 * slope, w, noise);

    const at::Tensor r1 = (level(index - 1).lambda - base.lambda) / h, near = 1.0 / r1 * (outputs_[1] - d0);
    const at::Tensor d1 = (r0 * near - r1 * slope) / (r0 - r1), d2 = 2.0 * (slope - near) / (r0 - r1);
    return with_noise(next + w.d1 * d1 + w.d2 * d2, w, noise);
  }

  std::vector<std::int64_t> orders_;
  at::Tensor group_start_;
};

}  // namespace

std::unique_ptr<Scheduler> make_dpm_multistep(const Config& config) { return std::make_unique<Multistep>(config); }
std::unique_ptr<Scheduler> make_dpm_singlestep(const Config& config) { return std::make_unique<Singlestep>(config); }

}  // namespace atelier::schedulers
