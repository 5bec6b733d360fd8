#include "train/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "nn/quantised_blocks.h"

namespace atelier::train {
namespace {

using base::Error;
using base::ExitCode;
using nn::QuantisedBlocks;

const std::array<std::string, 5> kNames{"adamw", "adamw8bit", "adafactor", "lion", "sgd"};
constexpr std::int64_t kSmallestQuantised = 4096;
constexpr std::int64_t kSlice = std::int64_t{1} << 22;  // elements dequantised at a time; whole blocks

using Shape = std::vector<std::int64_t>;

/// A state tensor that a kind keeps for a parameter.
struct StateSpec {
  const char* name;
  Shape shape;
  at::ScalarType dtype = at::kFloat;
};

/// A parameter and its states. `target` is what a step changes: the parameter, or its f32 copy.
struct Slot {
  Parameter parameter;
  std::map<std::string, at::Tensor> states;

  at::Tensor& operator[](const char* name) { return states.at(name); }
};

bool half_precision(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kBFloat16 || tensor.scalar_type() == at::kHalf;
}

/// Keeps the states by name; a kind says which ones there are and how a step goes.
class StatefulOptimizer : public Optimizer {
 public:
  StatefulOptimizer(const std::vector<Parameter>& parameters, const OptimizerOptions& options) : options_(options) {
    for (const Parameter& parameter : parameters) slots_.push_back({parameter, {}});
  }

  void step(double lr) override {
    const at::NoGradGuard no_grad;
    for (Slot& slot : slots_) {
      at::Tensor& parameter = slot.parameter.tensor;
      if (!parameter.grad().defined()) continue;
      if (slot.states.empty()) begin(slot);
      slot["step"].add_(1);
      const at::Tensor gradient = parameter.grad().to(at::kFloat).contiguous();
      const auto master = slot.states.find("master");
      const at::Tensor target = master != slot.states.end() ? master->second : parameter.to(at::kFloat).contiguous();
      update(slot, target, gradient, lr * slot.parameter.lr_scale, slot.parameter.decays ? options_.weight_decay : 0);
      // LibTorch's fused kernels write without counting it; who keeps what follows from a tensor looks at the count.
      target.unsafeGetTensorImpl()->bump_version();
      if (!target.is_same(parameter)) parameter.copy_(target);
    }
  }

  TensorMap state() const override {
    TensorMap all;
    for (const Slot& slot : slots_) {
      for (const auto& [name, tensor] : slot.states) all[slot.parameter.name + "." + name] = tensor;
    }
    return all;
  }

  void load_state(const TensorMap& state) override {
    std::size_t used = 0;
    std::vector<std::map<std::string, at::Tensor>> loaded;
    for (const Slot& slot : slots_) {
      loaded.emplace_back();
      if (!state.contains(slot.parameter.name + ".step")) continue;  // it had no gradient yet
      for (const StateSpec& spec : all_specs(slot)) {
        loaded.back()[spec.name] = take(state, slot, spec);
        ++used;
      }
    }
    if (used != state.size()) {
      throw Error(ExitCode::data, "the saved optimiser holds states that this optimiser has no use for");
    }
    for (std::size_t i = 0; i < slots_.size(); ++i) slots_[i].states = std::move(loaded[i]);
  }

 protected:
  /// The states of this kind beside step and master.
  virtual std::vector<StateSpec> specs(const at::Tensor& parameter) const = 0;
  /// Changes `target` (f32, contiguous) by one step; `slot` holds the states.
  virtual void update(Slot& slot, const at::Tensor& target, const at::Tensor& gradient, double lr, double decay) = 0;

  static double step_of(Slot& slot) { return slot["step"].item<double>(); }

  const OptimizerOptions options_;

 private:
  std::vector<StateSpec> all_specs(const Slot& slot) const {
    std::vector<StateSpec> all = specs(slot.parameter.tensor);
    all.push_back({"step", {}});
    if (options_.master_weights && half_precision(slot.parameter.tensor)) {
      all.push_back({"master", slot.parameter.tensor.sizes().vec()});
    }
    return all;
  }

  void begin(Slot& slot) {
    for (const StateSpec& spec : all_specs(slot)) {
      slot.states[spec.name] =
          at::zeros(spec.shape, slot.parameter.tensor.options().dtype(spec.dtype).requires_grad(false));
    }
    if (slot.states.contains("master")) slot["master"].copy_(slot.parameter.tensor);
  }

  static at::Tensor take(const TensorMap& state, const Slot& slot, const StateSpec& spec) {
    const std::string name = slot.parameter.name + "." + spec.name;
    const auto saved = state.find(name);
    if (saved == state.end())
      throw Error(ExitCode::data, fmt::format("the saved optimiser has no {}", base::in_quotes(name)));
    if (saved->second.sizes() != at::IntArrayRef(spec.shape) || saved->second.scalar_type() != spec.dtype) {
      throw Error(ExitCode::data,
                  fmt::format("{} of the saved optimiser has another shape or type", base::in_quotes(name)));
    }
    return saved->second.to(slot.parameter.tensor.device(), spec.dtype, false, /*copy=*/true).contiguous();
  }

  std::vector<Slot> slots_;
};

class AdamW : public StatefulOptimizer {
 public:
  using StatefulOptimizer::StatefulOptimizer;

 protected:
  std::vector<StateSpec> specs(const at::Tensor& parameter) const override {
    return {{"exp_avg", parameter.sizes().vec()}, {"exp_avg_sq", parameter.sizes().vec()}};
  }

  void update(Slot& slot, const at::Tensor& target, const at::Tensor& gradient, double lr, double decay) override {
    fused(target, gradient, slot["exp_avg"], slot["exp_avg_sq"], slot["step"], lr, decay);
  }

  void fused(const at::Tensor& target, const at::Tensor& gradient, const at::Tensor& exp_avg,
             const at::Tensor& exp_avg_sq, const at::Tensor& step, double lr, double decay) const {
    at::_fused_adamw_({target}, {gradient}, {exp_avg}, {exp_avg_sq}, {}, {step}, lr, options_.beta1.value_or(0.9),
                      options_.beta2.value_or(0.999), decay, options_.eps, /*amsgrad=*/false, /*maximize=*/false);
  }
};

// The moments lie in 8 bits between steps. A step widens, updates and narrows them slice by slice.
class AdamW8bit final : public AdamW {
 public:
  using AdamW::AdamW;

 private:
  std::vector<StateSpec> specs(const at::Tensor& parameter) const override {
    const std::int64_t size = parameter.numel(), blocks = (size + nn::values_per_scale - 1) / nn::values_per_scale;
    if (size < kSmallestQuantised) return AdamW::specs(parameter);
    return {{"exp_avg", {size}, at::kByte},
            {"exp_avg.absmax", {blocks}},
            {"exp_avg_sq", {size}, at::kByte},
            {"exp_avg_sq.absmax", {blocks}}};
  }

  void update(Slot& slot, const at::Tensor& target, const at::Tensor& gradient, double lr, double decay) override {
    if (target.numel() < kSmallestQuantised) return AdamW::update(slot, target, gradient, lr, decay);
    if (!signed_.defined() || signed_.device() != target.device()) {
      signed_ = nn::dynamic_tree(true).to(target.device());
      unsigned_ = nn::dynamic_tree(false).to(target.device());
    }
    const at::Tensor values = target.view(-1), gradients = gradient.view(-1);
    const bool first = step_of(slot) == 1;  // its codes are no codes yet
    for (std::int64_t begin = 0; begin < values.numel(); begin += kSlice) {
      const std::int64_t count = std::min(kSlice, values.numel() - begin);
      const QuantisedBlocks mean = slice(slot, "exp_avg", "exp_avg.absmax", begin, count);
      const QuantisedBlocks square = slice(slot, "exp_avg_sq", "exp_avg_sq.absmax", begin, count);
      const at::Tensor gradient_slice = gradients.narrow(0, begin, count);
      const at::Tensor exp_avg = first ? at::zeros_like(gradient_slice) : nn::dequantise(mean, signed_);
      const at::Tensor exp_avg_sq = first ? at::zeros_like(gradient_slice) : nn::dequantise(square, unsigned_);
      fused(values.narrow(0, begin, count), gradient_slice, exp_avg, exp_avg_sq, slot["step"], lr, decay);
      put(mean, nn::quantise(exp_avg, signed_));
      put(square, nn::quantise(exp_avg_sq, unsigned_));
    }
  }

  static QuantisedBlocks slice(Slot& slot, const char* codes, const char* absmax, std::int64_t begin,
                               std::int64_t count) {
    return {slot[codes].narrow(0, begin, count),
            slot[absmax].narrow(0, begin / nn::values_per_scale,
                                (count + nn::values_per_scale - 1) / nn::values_per_scale)};
  }

  static void put(const QuantisedBlocks& into, const QuantisedBlocks& from) {
    into.codes.copy_(from.codes);
    into.absmax.copy_(from.absmax);
  }

  at::Tensor signed_, unsigned_;
};

class Adafactor final : public StatefulOptimizer {
 public:
  using StatefulOptimizer::StatefulOptimizer;

 private:
  std::vector<StateSpec> specs(const at::Tensor& parameter) const override {
    const Shape shape = parameter.sizes().vec();
    std::vector<StateSpec> all;
    if (shape.size() >= 2) {
      Shape row(shape.begin(), shape.end() - 1), col = row;
      col.back() = shape.back();
      all = {{"exp_avg_sq_row", row}, {"exp_avg_sq_col", col}};
    } else {
      all = {{"exp_avg_sq", shape}};
    }
    if (options_.beta1) all.push_back({"exp_avg", shape});
    return all;
  }

  void update(Slot& slot, const at::Tensor& target, const at::Tensor& gradient, double lr, double decay) override {
    if (options_.scale_parameter) lr *= std::max(1e-3, root_mean_square(target));
    const double beta2 = 1 - std::pow(step_of(slot), -0.8);
    at::Tensor change = gradient * root_reciprocal(slot, gradient.square() + 1e-30, beta2);
    change.mul_(lr / std::max(1.0, root_mean_square(change) / options_.clip_threshold));
    if (options_.beta1) {
      slot["exp_avg"].mul_(*options_.beta1).add_(change, 1 - *options_.beta1);
      change = slot["exp_avg"];
    }
    if (decay != 0) target.mul_(1 - decay * lr);
    target.sub_(change);
  }

  // 1 / sqrt of the averaged squares; of a matrix from the averages over its rows and columns.
  static at::Tensor root_reciprocal(Slot& slot, const at::Tensor& squares, double beta2) {
    if (squares.dim() < 2) return slot["exp_avg_sq"].mul_(beta2).add_(squares, 1 - beta2).rsqrt();
    const at::Tensor& row = slot["exp_avg_sq_row"].mul_(beta2).add_(squares.mean(-1), 1 - beta2);  // (..., rows)
    const at::Tensor& col = slot["exp_avg_sq_col"].mul_(beta2).add_(squares.mean(-2), 1 - beta2);  // (..., columns)
    return (row / row.mean(-1, true)).rsqrt().unsqueeze(-1) * col.rsqrt().unsqueeze(-2);
  }

  static double root_mean_square(const at::Tensor& tensor) {
    return at::linalg_vector_norm(tensor).item<double>() / std::sqrt(static_cast<double>(tensor.numel()));
  }
};

class Lion final : public StatefulOptimizer {
 public:
  using StatefulOptimizer::StatefulOptimizer;

 private:
  std::vector<StateSpec> specs(const at::Tensor& parameter) const override {
    return {{"exp_avg", parameter.sizes().vec()}};
  }

  void update(Slot& slot, const at::Tensor& target, const at::Tensor& gradient, double lr, double decay) override {
    const double beta1 = options_.beta1.value_or(0.9), beta2 = options_.beta2.value_or(0.99);
    const at::Tensor direction = (slot["exp_avg"] * beta1).add_(gradient, 1 - beta1).sign_();
    if (decay != 0) target.mul_(1 - lr * decay);
    target.sub_(direction, lr);
    slot["exp_avg"].mul_(beta2).add_(gradient, 1 - beta2);
  }
};

class Sgd final : public StatefulOptimizer {
 public:
  using StatefulOptimizer::StatefulOptimizer;

 private:
  double momentum() const { return options_.beta1.value_or(0); }

  std::vector<StateSpec> specs(const at::Tensor& parameter) const override {
    if (momentum() == 0) return {};
    return {{"momentum_buffer", parameter.sizes().vec()}};
  }

  void update(Slot& slot, const at::Tensor& target, const at::Tensor& gradient, double lr, double decay) override {
    std::vector<at::Tensor> buffers;
    if (momentum() != 0) buffers.push_back(slot["momentum_buffer"]);
    at::_fused_sgd_({target}, {gradient}, buffers, decay, momentum(), lr, /*dampening=*/0, /*nesterov=*/false,
                    /*maximize=*/false, /*is_first_step=*/step_of(slot) == 1);
  }
};

void check(const OptimizerOptions& options) {
  const auto require = [](bool good, const char* message) {
    if (!good) throw Error(ExitCode::usage, std::string("optimiser: ") + message);
  };
  const auto share = [](const std::optional<double>& beta) { return !beta || (*beta >= 0 && *beta < 1); };
  require(std::isfinite(options.weight_decay) && options.weight_decay >= 0, "the weight decay must not be negative");
  require(share(options.beta1) && share(options.beta2), "a beta must be at least 0 and below 1");
  require(options.eps > 0 && std::isfinite(options.eps), "epsilon must be above 0");
  require(options.clip_threshold > 0, "the clipping threshold must be above 0");
}

}  // namespace

OptimizerKind optimizer_kind(std::string_view name) {
  const auto place = std::find(kNames.begin(), kNames.end(), name);
  if (place != kNames.end()) return static_cast<OptimizerKind>(place - kNames.begin());
  const std::string close = base::nearest(name, kNames);
  throw Error(
      ExitCode::usage, fmt::format("unknown optimiser {}", base::in_quotes(name)),
      close.empty() ? fmt::format("one of {}", fmt::join(kNames, ", ")) : fmt::format("did you mean {}?", close));
}

std::unique_ptr<Optimizer> make_optimizer(const std::vector<Parameter>& parameters, const OptimizerOptions& options) {
  check(options);
  switch (options.kind) {
    case OptimizerKind::adamw: return std::make_unique<AdamW>(parameters, options);
    case OptimizerKind::adamw8bit: return std::make_unique<AdamW8bit>(parameters, options);
    case OptimizerKind::adafactor: return std::make_unique<Adafactor>(parameters, options);
    case OptimizerKind::lion: return std::make_unique<Lion>(parameters, options);
    case OptimizerKind::sgd: return std::make_unique<Sgd>(parameters, options);
  }
  throw Error(ExitCode::internal, "an optimiser without a kind");
}

}  // namespace atelier::train
