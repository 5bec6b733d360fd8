// UniPC: a predictor and, with the model evaluation that the next step needs anyway, a corrector of the same form (diffusers'
// UniPCMultistep; B(h) is h or e^h - 1).
#include <algorithm>
#include <cstddef>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_solve.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>

#include "schedulers/make.h"
#include "schedulers/solver.h"

namespace atelier::schedulers {
namespace {

class UniPc : public Solver {
 public:
  using Solver::Solver;

 protected:
  void plan(std::int64_t steps, const TimestepOptions& options) override {
    Solver::plan(steps, options);
    last_sample_ = at::Tensor();
    last_order_ = 0;
  }

  at::Tensor advance(const at::Tensor& model_output, std::size_t index, const at::Tensor& given,
                     NoiseSource&) override {
    const at::Tensor output = convert(model_output, given, index);
    const at::Tensor sample = corrects(index) ? correct(output, index) : given;
    remember(output);
    std::int64_t order = config_.solver_order;
    if (config_.lower_order_final) order = std::min(order, static_cast<std::int64_t>(timesteps_.size() - index));
    last_order_ = std::min(order, warm_ + 1);
    last_sample_ = sample;
    warm_ = std::min(warm_ + 1, config_.solver_order);
    return predict(sample, index);
  }

 private:
  /// Both halves of the method lead from level `from` to `to` by this.
  struct Step {
    at::Tensor start;                // the sample without derivatives
    at::Tensor scale;                // of the derivatives
    at::Tensor matrix, rhs;          // of their weights: (order, order), (order)
    std::vector<at::Tensor> slopes;  // divided differences to older outputs, order - 1 of them
  };

  /// What the history holds: the finished sample, or the noise in it.
  at::Tensor convert(const at::Tensor& model_output, const at::Tensor& sample, std::size_t index) {
    const Level now = level(index);
    if (config_.predict_x0) return denoised_ = original(model_output, sample, index);
    at::Tensor noise = model_output;
    if (config_.prediction == Prediction::sample) noise = (sample - now.alpha * model_output) / now.sigma;
    if (config_.prediction == Prediction::v) noise = now.alpha * model_output + now.sigma * sample;
    denoised_ = (sample - now.sigma * noise) / now.alpha;
    return noise;
  }

  bool corrects(std::size_t index) const {
    if (index == 0 || !last_sample_.defined()) return false;
    const auto& off = config_.disable_corrector;
    return std::find(off.begin(), off.end(), static_cast<std::int64_t>(index) - 1) == off.end();
  }

  Step prepare(const at::Tensor& sample, std::size_t from_index, std::int64_t order) const {
    const Level from = level(from_index), to = level(from_index + 1);
    const at::Tensor h = to.lambda - from.lambda, hh = config_.predict_x0 ? -h : h, phi = hh.expm1();
    const at::Tensor scale = config_.solver_type == SolverType::bh1 ? hh : phi;
    Step step;
    if (config_.predict_x0) {
      step.start = to.sigma / from.sigma * sample - to.alpha * phi * outputs_[0];
      step.scale = to.alpha * scale;
    } else {
      step.start = to.alpha / from.alpha * sample - to.sigma * phi * outputs_[0];
      step.scale = to.sigma * scale;
    }
    std::vector<at::Tensor> places;
    for (std::int64_t i = 1; i < order; ++i) {
      const at::Tensor place = (level(from_index - static_cast<std::size_t>(i)).lambda - from.lambda) / h;
      places.push_back(place);
      step.slopes.push_back((outputs_[static_cast<std::size_t>(i)] - outputs_[0]) / place);
    }
    places.push_back(at::ones({}, at::kFloat));
    fill_system(step, at::stack(places), hh, phi, scale);
    return step;
  }

  /// Rows of the system: powers of the places against the phi functions of h.
  static void fill_system(Step& step, const at::Tensor& places, const at::Tensor& hh, const at::Tensor& phi,
                          const at::Tensor& scale) {
    std::vector<at::Tensor> rows, right;
    at::Tensor phi_k = phi / hh - 1;
    double factorial = 1;
    for (std::int64_t i = 1; i <= places.size(0); ++i) {
      rows.push_back(places.pow(i - 1));
      right.push_back(phi_k * factorial / scale);
      factorial *= static_cast<double>(i + 1);
      phi_k = phi_k / hh - 1 / factorial;
    }
    step.matrix = at::stack(rows);
    step.rhs = at::stack(right);
  }

  /// Added one after another, never by a matrix product, whose sums would depend on the size of the batch.
  static at::Tensor weighted(const at::Tensor& weights, const std::vector<at::Tensor>& slopes) {
    at::Tensor sum = weights[0] * slopes[0];
    for (std::size_t k = 1; k < slopes.size(); ++k) sum = sum + weights[static_cast<std::int64_t>(k)] * slopes[k];
    return sum;
  }

  at::Tensor predict(const at::Tensor& sample, std::size_t index) const {
    const Step step = prepare(sample, index, last_order_);
    if (step.slopes.empty()) return step.start.to(sample.scalar_type());
    const at::Tensor weights =
        last_order_ == 2 ? at::ones({1}, at::kFloat) * 0.5
                         : at::linalg_solve(step.matrix.slice(0, 0, -1).slice(1, 0, -1), step.rhs.slice(0, 0, -1));
    const at::Tensor change = weighted(weights.to(sample.scalar_type()), step.slopes);
    return (step.start - step.scale * change).to(sample.scalar_type());
  }

  /// The last step again, now that the model was evaluated at its end.
  at::Tensor correct(const at::Tensor& output, std::size_t index) const {
    const Step step = prepare(last_sample_, index - 1, last_order_);
    const at::Tensor solved =
        last_order_ == 1 ? at::ones({1}, at::kFloat) * 0.5 : at::linalg_solve(step.matrix, step.rhs);
    const at::Tensor weights = solved.to(last_sample_.scalar_type());
    at::Tensor change = weights[-1] * (output - outputs_[0]);
    if (!step.slopes.empty()) change = weighted(weights, step.slopes) + change;
    return (step.start - step.scale * change).to(last_sample_.scalar_type());
  }

  at::Tensor last_sample_;
  std::int64_t last_order_ = 0;
};

}  // namespace

std::unique_ptr<Scheduler> make_unipc(const Config& config) { return std::make_unique<UniPc>(config); }

}  // namespace atelier::schedulers
