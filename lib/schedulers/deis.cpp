// DEIS: the model's noise as a polynomial in log(sigma / alpha), integrated exactly (diffusers' DEISMultistep, log-rho).
#include <algorithm>

#include <ATen/TensorOperators.h>

#include "schedulers/make.h"
#include "schedulers/solver.h"

namespace atelier::schedulers {
namespace {

/// Antiderivative at rho of the Lagrange polynomial in log(rho) that is 1 at b and 0 at c.
at::Tensor antiderivative(const at::Tensor& rho, const at::Tensor& b, const at::Tensor& c) {
  return rho * (-c.log() + rho.log() - 1) / (b.log() - c.log());
}

/// The same with zeros at c and d.
at::Tensor antiderivative(const at::Tensor& rho, const at::Tensor& b, const at::Tensor& c, const at::Tensor& d) {
  const at::Tensor log_rho = rho.log(), log_b = b.log(), log_c = c.log(), log_d = d.log();
  const at::Tensor numerator =
      rho * (log_c * (log_d - log_rho + 1) - log_d * log_rho + log_d + log_rho.pow(2) - 2 * log_rho + 2);
  return numerator / ((log_b - log_c) * (log_b - log_d));
}

class Deis : public Solver {
 public:
  using Solver::Solver;

 protected:
  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource&) override {
    denoised_ = original(model_output, sample, index);
    const Level now = level(index);
    remember((sample - now.alpha * denoised_) / now.sigma);
    const at::Tensor next = update(order_at(index), index, sample);
    warm_ = std::min(warm_ + 1, config_.solver_order);
    return next;
  }

 private:
  std::int64_t order_at(std::size_t index) const {
    const std::size_t left = timesteps_.size() - index;
    if (config_.solver_order == 1 || warm_ < 1 || (left == 1 && short_run())) return 1;
    if (config_.solver_order == 2 || warm_ < 2 || (left == 2 && short_run())) return 2;
    return 3;
  }

  at::Tensor update(std::int64_t order, std::size_t index, const at::Tensor& sample) const {
    const Level to = level(index + 1), from = level(index);
    if (order == 1) {
      const at::Tensor h = to.lambda - from.lambda;
      return to.alpha / from.alpha * sample - to.sigma * (h.exp() - 1.0) * outputs_[0];
    }
    const auto rho = [](const Level& level) { return level.sigma / level.alpha; };
    const at::Tensor end = rho(to), r0 = rho(from), r1 = rho(level(index - 1));
    if (order == 2) {
      const at::Tensor c0 = antiderivative(end, r0, r1) - antiderivative(r0, r0, r1);
      const at::Tensor c1 = antiderivative(end, r1, r0) - antiderivative(r0, r1, r0);
      return to.alpha * (sample / from.alpha + c0 * outputs_[0] + c1 * outputs_[1]);
    }
    const at::Tensor r2 = rho(level(index - 2));
    const at::Tensor c0 = antiderivative(end, r0, r1, r2) - antiderivative(r0, r0, r1, r2);
    const at::Tensor c1 = antiderivative(end, r1, r2, r0) - antiderivative(r0, r1, r2, r0);
    const at::Tensor c2 = antiderivative(end, r2, r0, r1) - antiderivative(r0, r2, r0, r1);
    return to.alpha * (sample / from.alpha + c0 * outputs_[0] + c1 * outputs_[1] + c2 * outputs_[2]);
  }
};

}  // namespace

std::unique_ptr<Scheduler> make_deis(const Config& config) { return std::make_unique<Deis>(config); }

}  // namespace atelier::schedulers
