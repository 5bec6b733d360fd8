#include "schedulers/solver.h"

#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>

#include "schedulers/flow_shift.h"

namespace atelier::schedulers {
namespace {

/// Training timesteps whose lambda is below `lowest` are the noisiest ones, at the end.
std::int64_t usable_timesteps(const Config& config, const at::Tensor& alphas) {
  const at::Tensor lambdas = alphas.sqrt().log() - (1 - alphas).sqrt().log();
  std::int64_t clipped = 0;
  const std::vector<double> values = to_vector(lambdas);
  const double lowest = static_cast<float>(config.lambda_min_clipped);
  for (auto lambda = values.rbegin(); lambda != values.rend() && *lambda < lowest; ++lambda) ++clipped;
  return std::max<std::int64_t>(config.num_train_timesteps - clipped, 1);
}

}  // namespace

Solver::Solver(const Config& config)
    : config_(config),
      training_sigmas_(sigmas_of(alphas_cumprod(config))),
      to_timestep_(to_vector(training_sigmas_)),
      last_timestep_(usable_timesteps(config, alphas_cumprod(config))) {}

std::vector<double> Solver::spaced(std::int64_t steps) const {
  // Of the classes here only DPMSolverMultistep and DPMSolverSinglestep know lambda_min_clipped; it is -inf for the others.
  return solver_timesteps(config_, steps, last_timestep_);
}

/// With Karras' or other sigmas in place of the spaced ones; they range over all of training.
Solver::Run Solver::converted(std::int64_t steps) const {
  std::vector<double> training = to_vector(training_sigmas_);
  std::reverse(training.begin(), training.end());
  Run run;
  const bool lu = config_.use_lu_lambdas && config_.conversion != Conversion::karras;
  if (lu) {  // Lu et al. 2022: even steps of lambda
    const std::vector<double>& logs = to_timestep_.log_sigmas();
    run.sigmas = linspace(logs.back(), logs.front(), steps);
    for (double& sigma : run.sigmas) sigma = std::exp(sigma);
  } else {
    run.sigmas = convert_sigmas(config_, training, steps);
  }
  const bool karras = config_.conversion == Conversion::karras;
  if (karras && config_.kind == Kind::unipc && config_.use_flow_sigmas) {
    for (double& sigma : run.sigmas) {
      sigma = sigma / (sigma + 1);
      run.timesteps.push_back(sigma * static_cast<double>(config_.num_train_timesteps));
    }
    return run;
  }
  run.timesteps = to_timestep_(run.sigmas);
  const bool keeps_fractions = config_.kind == Kind::dpm_multistep && config_.beta_schedule == "squaredcos_cap_v2";
  if ((karras || lu) && !keeps_fractions) {
    for (double& t : run.timesteps) t = round_even(t);
  }
  return run;
}

Solver::Run Solver::flow(std::int64_t steps, const TimestepOptions& options) const {
  const auto training = static_cast<double>(config_.num_train_timesteps);
  Run run;
  if (config_.kind == Kind::unipc) {
    run.sigmas = linspace(1, 1 / training, steps + 1);
    run.sigmas.pop_back();
    if (!options.sigmas.empty()) run.sigmas = options.sigmas;
    run.sigmas = to_vector(shift_sigmas(config_, to_float64(run.sigmas), options.mu));
    // Exactly 1 would be a level without signal, whose lambda is -inf.
    if (std::abs(run.sigmas[0] - 1) < 1e-6) run.sigmas[0] -= 1e-6;
  } else {
    const double shift = options.mu && config_.use_dynamic_shifting ? std::exp(*options.mu) : config_.flow_shift;
    for (const double alpha : linspace(1, 1 / training, steps + 1)) {
      const double sigma = 1 - alpha;
      run.sigmas.insert(run.sigmas.begin(), shift * sigma / (1 + (shift - 1) * sigma));
    }
    run.sigmas.pop_back();
  }
  for (const double sigma : run.sigmas) run.timesteps.push_back(sigma * training);
  return run;
}

double Solver::last_sigma(const Run& run) const {
  const bool spaced = config_.conversion == Conversion::none && !config_.use_lu_lambdas && !config_.use_flow_sigmas;
  const double lowest = training_sigmas_[0].item<double>();
  if (config_.kind == Kind::deis) return spaced ? lowest : run.sigmas.back();
  if (config_.final_sigma_zero) return 0;
  return config_.kind == Kind::unipc && !spaced ? run.sigmas.back() : lowest;
}

void Solver::plan(std::int64_t steps, const TimestepOptions& options) {
  Run run;
  const bool converts = config_.conversion != Conversion::none || config_.use_lu_lambdas;
  if (converts) {
    run = converted(steps);
  } else if (config_.use_flow_sigmas) {
    run = flow(steps, options);
  } else {
    run.timesteps = spaced(steps);
    run.sigmas = interpolate(run.timesteps, to_vector(training_sigmas_));
  }
  run.sigmas.push_back(last_sigma(run));
  sigmas_ = to_float32(run.sigmas);
  timesteps_ = run.timesteps;
  for (double& t : timesteps_) t = std::trunc(t);
  outputs_.clear();
  warm_ = 0;
}

Solver::Level Solver::level(std::size_t index) const {
  const at::Tensor ratio = sigmas_[static_cast<std::int64_t>(index)];
  Level level;
  if (config_.use_flow_sigmas) {
    level.alpha = 1 - ratio;
    level.sigma = ratio;
  } else {
    level.alpha = 1 / (ratio.pow(2) + 1).pow(0.5);
    level.sigma = ratio * level.alpha;
  }
  level.lambda = level.alpha.log() - level.sigma.log();
  return level;
}

at::Tensor Solver::add_noise(const at::Tensor& original, const at::Tensor& noise, std::size_t index) const {
  const at::Tensor ratio = sigmas_.to(original.scalar_type())[static_cast<std::int64_t>(index)];
  if (config_.use_flow_sigmas) return (1 - ratio) * original + ratio * noise;
  const at::Tensor alpha = 1 / (ratio.pow(2) + 1).pow(0.5);
  return alpha * original + ratio * alpha * noise;
}

std::optional<double> Solver::shift_mu(std::int64_t image_tokens) const { return flow_shift_mu(config_, image_tokens); }

at::Tensor Solver::original(const at::Tensor& model_output, const at::Tensor& sample, std::size_t index) const {
  const Level now = level(index);
  const auto plain = [&] {
    switch (config_.prediction) {
      case Prediction::sample: return model_output;
      case Prediction::v: return now.alpha * sample - now.sigma * model_output;
      case Prediction::flow: return sample - sigmas_[static_cast<std::int64_t>(index)] * model_output;
      default: return (sample - now.sigma * model_output) / now.alpha;
    }
  };
  return config_.thresholding ? threshold_sample(config_, plain()) : plain();
}

void Solver::remember(const at::Tensor& output) {
  outputs_.insert(outputs_.begin(), output);
  if (outputs_.size() > static_cast<std::size_t>(config_.solver_order)) outputs_.pop_back();
}

}  // namespace atelier::schedulers
