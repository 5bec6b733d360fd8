#include "schedulers/levels.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cumprod.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/sigmoid.h>
#include <fmt/format.h>

#include "base/error.h"

namespace atelier::schedulers {
namespace {

double cosine_bar(double t) {
  const double c = std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2);
  return c * c;
}

double exponential_bar(double t) { return std::exp(t * -12); }

double laplace_bar(double t) {
  const double lambda = -0.5 * std::copysign(1.0, 0.5 - t) * std::log(1 - 2 * std::abs(0.5 - t) + 1e-6);
  const double snr = std::exp(lambda);
  return std::sqrt(snr / (1 + snr));
}

at::Tensor betas_of_bar(double (*bar)(double), std::int64_t steps) {
  std::vector<double> betas;
  for (std::int64_t i = 0; i < steps; ++i) {
    const double from = static_cast<double>(i) / static_cast<double>(steps);
    const double to = static_cast<double>(i + 1) / static_cast<double>(steps);
    betas.push_back(std::min(1 - bar(to) / bar(from), 0.999));
  }
  return to_float32(betas);
}

at::Tensor betas_of(const Config& config) {
  const std::int64_t steps = config.num_train_timesteps;
  const auto line = [&](double from, double to) { return at::linspace(from, to, steps, at::kFloat); };
  if (!config.trained_betas.empty()) return to_float32(config.trained_betas);
  if (config.beta_schedule == "scaled_linear") {
    return line(std::pow(config.beta_start, 0.5), std::pow(config.beta_end, 0.5)).pow(2);
  }
  if (config.beta_schedule == "squaredcos_cap_v2") return betas_of_bar(cosine_bar, steps);
  if (config.beta_schedule == "exp") return betas_of_bar(exponential_bar, steps);
  if (config.beta_schedule == "laplace") return betas_of_bar(laplace_bar, steps);
  if (config.beta_schedule == "sigmoid") {
    return line(-6, 6).sigmoid() * (config.beta_end - config.beta_start) + config.beta_start;
  }
  return line(config.beta_start, config.beta_end);
}

/// Lin et al. 2024: stretches sqrt(alpha bar) so that the last training step has no signal left.
at::Tensor rescale_to_zero_snr(const at::Tensor& betas) {
  at::Tensor root = (1.0 - betas).cumprod(0).sqrt();
  const at::Tensor first = root[0].clone(), last = root[-1].clone();
  root = (root - last) * (first / (first - last));
  const at::Tensor bar = root.pow(2);
  const at::Tensor alphas = at::cat({bar.slice(0, 0, 1), bar.slice(0, 1) / bar.slice(0, 0, -1)});
  return 1 - alphas;
}

/// numpy.arange(start, 0, -step).
std::vector<double> count_down(double start, double step) {
  const auto n = static_cast<std::size_t>(std::ceil((0 - start) / -step));
  std::vector<double> values;
  const double delta = (start - step) - start;  // what numpy multiplies with
  for (std::size_t i = 0; i < n; ++i) values.push_back(start + static_cast<double>(i) * delta);
  return values;
}

std::vector<double> trailing_timesteps(double last, double step) {
  std::vector<double> timesteps = count_down(last, step);
  for (double& t : timesteps) t = round_even(t) - 1;
  return timesteps;
}

/// n of 0, ratio, 2 ratio, ..., descending, without the first `skipped`.
std::vector<double> leading_timesteps(const Config& config, std::int64_t n, std::int64_t skipped, std::int64_t last) {
  const std::int64_t ratio = last / (n + skipped);
  if (ratio == 0) {
    throw base::Error(base::ExitCode::usage,
                      fmt::format("{} steps are too many for timestep_spacing leading over {}", n, last));
  }
  std::vector<double> timesteps;
  for (std::int64_t i = n - 1 + skipped; i >= skipped; --i) {
    timesteps.push_back(static_cast<double>(i * ratio + config.steps_offset));
  }
  return timesteps;
}

/// Regularised incomplete beta function I_x(a, a) by Lentz's continued fraction; good for x <= 1/2.
double beta_cdf(double x, double a) {
  const double front = std::exp(std::lgamma(2 * a) - 2 * std::lgamma(a) + a * std::log(x) + a * std::log1p(-x)) / a;
  double c = 1, d = 1 / (1 - 2 * a * x / (a + 1)), fraction = d;
  for (int m = 1; m < 300; ++m) {
    const double even = m * (a - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + even * d);
    c = 1 + even / c;
    fraction *= d * c;
    const double odd = -(a + m) * (2 * a + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / (1 + odd * d);
    c = 1 + odd / c;
    fraction *= d * c;
    if (std::abs(d * c - 1) < 1e-16) break;
  }
  return front * fraction;
}

}  // namespace

at::Tensor alphas_cumprod(const Config& config) {
  at::Tensor betas = betas_of(config);
  if (config.rescale_betas_zero_snr) betas = rescale_to_zero_snr(betas);
  at::Tensor bar = (1.0 - betas).cumprod(0);
  const bool divides_by_signal = config.kind == Kind::euler || config.kind == Kind::euler_ancestral ||
                                 config.kind == Kind::dpm_multistep || config.kind == Kind::unipc;
  // So that the last sigma stays finite: float16's smallest number, as FP16 users see it.
  if (config.rescale_betas_zero_snr && divides_by_signal) bar[-1].fill_(0x1p-24);
  return bar;
}

at::Tensor sigmas_of(const at::Tensor& alphas_cumprod) { return ((1 - alphas_cumprod) / alphas_cumprod).pow(0.5); }

std::vector<double> to_vector(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

at::Tensor to_float64(const std::vector<double>& values) {
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(values.size())}, at::kDouble);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<double>());
  return tensor;
}

at::Tensor to_float32(const std::vector<double>& values) {
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(values.size())}, at::kFloat);
  std::transform(values.begin(), values.end(), tensor.mutable_data_ptr<float>(),
                 [](double value) { return static_cast<float>(value); });
  return tensor;
}

std::vector<double> linspace(double start, double stop, std::int64_t n) {
  std::vector<double> values;
  const double step = n > 1 ? (stop - start) / static_cast<double>(n - 1) : 0;
  for (std::int64_t i = 0; i < n; ++i) values.push_back(static_cast<double>(i) * step + start);
  if (n > 1) values.back() = stop;
  return values;
}

double round_even(double value) { return std::nearbyint(value); }

std::vector<double> spaced_timesteps(const Config& config, std::int64_t n) {
  const auto last = static_cast<double>(config.num_train_timesteps);
  if (config.spacing == Spacing::trailing) return trailing_timesteps(last, last / static_cast<double>(n));
  if (config.spacing == Spacing::leading) return leading_timesteps(config, n, 0, config.num_train_timesteps);
  std::vector<double> timesteps = linspace(0, last - 1, n);
  std::reverse(timesteps.begin(), timesteps.end());
  return timesteps;
}

std::vector<double> solver_timesteps(const Config& config, std::int64_t n, std::int64_t last) {
  if (config.spacing == Spacing::trailing) {
    return trailing_timesteps(static_cast<double>(last),
                              static_cast<double>(config.num_train_timesteps) / static_cast<double>(n));
  }
  if (config.spacing == Spacing::leading) return leading_timesteps(config, n, 1, last);
  std::vector<double> timesteps = linspace(0, static_cast<double>(last - 1), n + 1);
  timesteps.erase(timesteps.begin());
  std::reverse(timesteps.begin(), timesteps.end());
  for (double& t : timesteps) t = round_even(t);
  return timesteps;
}

std::vector<double> interpolate(const std::vector<double>& places, const std::vector<double>& table) {
  std::vector<double> values;
  for (const double place : places) {
    const double end = static_cast<double>(table.size() - 1);
    if (place >= end) {
      values.push_back(table.back());
    } else if (place <= 0) {
      values.push_back(table.front());
    } else {
      const double low = std::floor(place);
      const auto i = static_cast<std::size_t>(low);
      values.push_back((table[i + 1] - table[i]) * (place - low) + table[i]);
    }
  }
  return values;
}

SigmaToTimestep::SigmaToTimestep(const std::vector<double>& training_sigmas) {
  for (const double sigma : training_sigmas) log_sigmas_.push_back(static_cast<float>(std::log(sigma)));
}

double SigmaToTimestep::operator()(double sigma) const {
  const double log_sigma = std::log(std::max(sigma, 1e-10));
  // The last of those that are not above, else 0; never the very last, which has no upper neighbour.
  std::size_t low = 0;
  for (std::size_t i = 0; i < log_sigmas_.size(); ++i) {
    if (log_sigma - log_sigmas_[i] >= 0) low = i;
  }
  low = std::min(low, log_sigmas_.size() - 2);
  const double from = log_sigmas_[low], to = log_sigmas_[low + 1];
  const double w = std::clamp((from - log_sigma) / (from - to), 0.0, 1.0);
  return (1 - w) * static_cast<double>(low) + w * static_cast<double>(low + 1);
}

std::vector<double> SigmaToTimestep::operator()(const std::vector<double>& sigmas) const {
  std::vector<double> timesteps;
  for (const double sigma : sigmas) timesteps.push_back((*this)(sigma));
  return timesteps;
}

std::vector<double> convert_sigmas(const Config& config, const std::vector<double>& sigmas, std::int64_t n) {
  // LMS and DPM++ SDE convert to Karras' sigmas without looking at the configuration's ends.
  const bool own_ends =
      config.conversion == Conversion::karras && (config.kind == Kind::lms || config.kind == Kind::dpm_sde);
  const double low = own_ends ? sigmas.back() : config.sigma_min.value_or(sigmas.back());
  const double high = own_ends ? sigmas.front() : config.sigma_max.value_or(sigmas.front());
  if (config.conversion == Conversion::exponential) {
    std::vector<double> values = linspace(std::log(high), std::log(low), n);
    for (double& value : values) value = std::exp(value);
    return values;
  }
  std::vector<double> values = linspace(0, 1, n);
  if (config.conversion == Conversion::beta) {
    for (double& value : values) value = low + beta_quantile(1 - value, 0.6) * (high - low);
    return values;
  }
  constexpr double rho = 7;
  const double low_root = std::pow(low, 1 / rho), high_root = std::pow(high, 1 / rho);
  for (double& value : values) value = std::pow(high_root + value * (low_root - high_root), rho);
  return values;
}

double beta_quantile(double p, double a) {
  if (p <= 0) return 0;
  if (p >= 1) return 1;
  if (p > 0.5) return 1 - beta_quantile(1 - p, a);
  // Bisection over the exponent is safe where the density has no bound (a < 1, x near 0), Newton finishes.
  double low = -745, high = std::log(0.5);
  for (int i = 0; i < 30; ++i) {
    const double middle = 0.5 * (low + high);
    (beta_cdf(std::exp(middle), a) < p ? low : high) = middle;
  }
  double x = std::exp(0.5 * (low + high));
  const double log_norm = std::lgamma(2 * a) - 2 * std::lgamma(a);
  for (int i = 0; i < 4; ++i) {
    const double density = std::exp(log_norm + (a - 1) * (std::log(x) + std::log1p(-x)));
    x = std::clamp(x - (beta_cdf(x, a) - p) / density, 1e-300, 0.5);
  }
  return x;
}

}  // namespace atelier::schedulers
