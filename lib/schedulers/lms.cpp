// Linear multistep (diffusers' LMSDiscrete): Adams-Bashforth over the last four derivatives, on the uneven grid of sigmas.
#include <algorithm>
#include <array>
#include <deque>

#include <ATen/TensorOperators.h>

#include "schedulers/common.h"
#include "schedulers/make.h"

namespace atelier::schedulers {
namespace {

constexpr std::int64_t kOrder = 4;

class Lms : public SigmaScheduler {
 public:
  using SigmaScheduler::SigmaScheduler;

 protected:
  void plan(std::int64_t steps, const TimestepOptions&) override {
    Levels run = levels(steps);
    timesteps_ = run.timesteps;
    for (double& t : timesteps_) t = static_cast<float>(t);
    run.sigmas.push_back(0);
    sigmas_ = to_float32(run.sigmas);
    grid_ = to_vector(sigmas_);
    derivatives_.clear();
  }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource&) override {
    const at::Tensor now = sigma(index);
    denoised_ = denoise(model_output, sample, now);
    derivatives_.push_front((sample - denoised_) / now);
    if (derivatives_.size() > kOrder) derivatives_.pop_back();
    // img2img starts in the middle: the order is that of the place, though there are fewer derivatives at first.
    const std::int64_t order = std::min<std::int64_t>(static_cast<std::int64_t>(index) + 1, kOrder);
    at::Tensor change;
    for (std::int64_t k = 0; k < std::min<std::int64_t>(order, static_cast<std::int64_t>(derivatives_.size())); ++k) {
      const at::Tensor term = coefficient(order, index, k) * derivatives_[static_cast<std::size_t>(k)];
      change = change.defined() ? change + term : term;
    }
    return sample + change;
  }

 private:
  /// Integral from this sigma to the next of the Lagrange polynomial that is 1 at the k-th last sigma and 0 at the others. It
  /// is of degree 3 at most, so two points of Gauss and Legendre are exact.
  double coefficient(std::int64_t order, std::size_t index, std::int64_t k) const {
    const auto before = [&](std::int64_t back) { return grid_[index - static_cast<std::size_t>(back)]; };
    const double from = grid_[index], to = grid_[index + 1];
    double integral = 0;
    for (const double point : {-0.57735026918962576451, 0.57735026918962576451}) {
      const double tau = (from + to) / 2 + point * (to - from) / 2;
      double product = 1;
      for (std::int64_t j = 0; j < order; ++j) {
        if (j != k) product *= (tau - before(j)) / (before(k) - before(j));
      }
      integral += product * (to - from) / 2;
    }
    return integral;
  }

  std::vector<double> grid_;            // sigmas_
  std::deque<at::Tensor> derivatives_;  // the newest first
};

}  // namespace

std::unique_ptr<Scheduler> make_lms(const Config& config) { return std::make_unique<Lms>(config); }

}  // namespace atelier::schedulers
