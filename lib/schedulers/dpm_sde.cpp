// DPM-Solver++ (SDE) with a midpoint (diffusers' DPMSolverSDE): its noise is the increment of one Brownian motion between the
// sigmas of a half step, so that runs with other numbers of steps follow the same path.
#include <cmath>
#include <cstddef>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/stack.h>

#include "base/error.h"
#include "schedulers/brownian.h"
#include "schedulers/common.h"
#include "schedulers/make.h"

namespace atelier::schedulers {
namespace {

at::Tensor sigma_of(const at::Tensor& t) { return t.neg().exp(); }
at::Tensor time_of(const at::Tensor& sigma) { return sigma.log().neg(); }

class DpmSde : public SigmaScheduler {
 public:
  using SigmaScheduler::SigmaScheduler;
  std::int64_t order() const override { return 2; }
  bool stochastic() const override { return true; }

  at::Tensor scale_model_input(const at::Tensor& sample, std::size_t index) const override {
    const at::Tensor now = first_half() ? sigma(index) : midpoint_;
    return sample / (now.pow(2) + 1).pow(0.5);
  }

 protected:
  void plan(std::int64_t steps, const TimestepOptions&) override {
    Levels run = levels(steps, false);
    timesteps_ = doubled(run.timesteps);
    for (std::size_t i = 0; i + 1 < run.sigmas.size(); ++i) {
      const double t = -std::log(run.sigmas[i]), next = -std::log(run.sigmas[i + 1]);
      timesteps_[2 * i + 1] = to_timestep_(std::exp(-(t + (next - t) * 0.5)));
    }
    run.sigmas.push_back(0);
    const at::Tensor sigmas = to_float32(run.sigmas);
    sigmas_ = at::cat({sigmas.slice(0, 0, 1), sigmas.slice(0, 1, -1).repeat_interleave(2), sigmas.slice(0, -1)});
    first_sample_ = midpoint_ = at::Tensor();
    trees_.clear();
  }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& sample,
                     NoiseSource& noise) override {
    const bool first = first_half();
    const at::Tensor from = sigma(first ? index : index - 1), to = sigma(first ? index + 1 : index);
    const at::Tensor t = time_of(from), t_end = time_of(to), t_middle = t + (t_end - t) * 0.5;
    denoised_ = denoise(model_output, sample, first ? from : sigma_of(t_middle));
    if (to.item<float>() == 0) return sample + (sample - denoised_) / from * (to - from);

    const at::Tensor t_next = first ? t_middle : t_end, start = first ? sample : first_sample_;
    const at::Tensor sigma_from = sigma_of(t), sigma_to = sigma_of(t_next);
    const at::Tensor up =
        at::minimum(sigma_to, (sigma_to.pow(2) * (sigma_from.pow(2) - sigma_to.pow(2)) / sigma_from.pow(2)).pow(0.5));
    const at::Tensor t_down = time_of((sigma_to.pow(2) - up.pow(2)).pow(0.5));
    const at::Tensor next = sigma_of(t_down) / sigma_of(t) * start - (t - t_down).expm1() * denoised_;
    const at::Tensor drawn = brownian(sample, sigma_from, sigma_to, noise);
    first_sample_ = first ? sample : at::Tensor();
    midpoint_ = first ? sigma_of(t_next) : at::Tensor();
    return next + drawn * up;
  }

 private:
  bool first_half() const { return !first_sample_.defined(); }

  /// Standard normal noise (N, ...) of the path between two sigmas, `from` the larger; a tree for each result of the batch.
  at::Tensor brownian(const at::Tensor& like, const at::Tensor& from, const at::Tensor& to, NoiseSource& noise) {
    if (trees_.empty()) plant(like, noise);
    std::vector<at::Tensor> rows;
    const double high = from.item<double>(), low = to.item<double>();
    for (const BrownianTree& tree : trees_) rows.push_back(tree.increment(low, high) * -1.0);
    return at::stack(rows).to(like.device()) / (to - from).abs().sqrt();
  }

  void plant(const at::Tensor& like, const NoiseSource& noise) {
    const auto seeds = noise.seeds();
    if (static_cast<std::int64_t>(seeds.size()) != like.size(0)) {
      throw base::Error(base::ExitCode::internal, "as many seeds as results are needed");
    }
    const double high = sigmas_.max().item<double>();
    const double low = sigmas_.masked_select(sigmas_ > 0).min().item<double>();
    for (const std::uint64_t seed : seeds) {
      trees_.emplace_back(low, high, like[0].sizes().vec(), like.scalar_type(),
                          config_.noise_sampler_seed.value_or(seed));
    }
  }

  at::Tensor first_sample_, midpoint_;  // between the halves of a step
  std::vector<BrownianTree> trees_;
};

}  // namespace

std::unique_ptr<Scheduler> make_dpm_sde(const Config& config) { return std::make_unique<DpmSde>(config); }

}  // namespace atelier::schedulers
