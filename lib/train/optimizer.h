#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "train/parameters.h"

namespace atelier::train {

enum class OptimizerKind { adamw, adamw8bit, adafactor, lion, sgd };

/// "adamw", "adamw8bit", "adafactor", "lion", "sgd"; Error(usage) naming the nearest one otherwise.
OptimizerKind optimizer_kind(std::string_view name);

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adamw;
  double weight_decay =
      0;  ///< decoupled (Loshchilov, Hutter 2019) but for sgd, which adds it to the gradient as torch does
  std::optional<double> beta1 = {};  ///< adamw .9, lion .9, adafactor none (no first moment); sgd: the momentum, 0
  std::optional<double> beta2 = {};  ///< adamw .999, lion .99; adafactor's decay comes from the step
  double eps = 1e-8;                 ///< adamw: added to the root
  double clip_threshold = 1;         ///< adafactor: root mean square above which an update is scaled down
  bool scale_parameter = false;      ///< adafactor: rate times max(1e-3, root mean square of the parameter)
  bool master_weights = true;  ///< bf16 and f16 parameters are updated as f32 copies, which hold what a step adds below
                               ///< their resolution; false: they are rounded at each step, and need no copy
};

/// Updates parameters from their gradients. All states are named tensors, so that one writer saves every optimiser and
/// a resumed one goes on bit for bit (on the same device and number of threads).
///
/// States of a parameter P, all f32 unless stated: `P.step` (scalar, steps taken), `P.master` (half precision
/// parameters) and
/// - adamw: `P.exp_avg`, `P.exp_avg_sq`. Updates are LibTorch's fused AdamW (torch.optim.AdamW(fused=True)).
/// - adamw8bit: the same two as U8 codes with `P.exp_avg.absmax`, `P.exp_avg_sq.absmax`, one f32 for each block of 256
///   elements (Dettmers and others 2022, 8-bit Optimizers via Block-wise Quantization; the dynamic tree of
///   bitsandbytes). Parameters of fewer than 4096 elements keep f32 states, as there.
/// - adafactor: `P.exp_avg_sq_row`, `P.exp_avg_sq_col` of matrices, else `P.exp_avg_sq`; `P.exp_avg` with beta1
///   (Shazeer, Stern 2018; transformers' Adafactor with relative_step=False).
/// - lion: `P.exp_avg` (Chen and others 2023, Symbolic Discovery of Optimization Algorithms).
/// - sgd: `P.momentum_buffer` with a momentum. LibTorch's fused SGD.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  /// One step of rate `lr` times each parameter's lr_scale; parameters without a gradient stay. Gradients are not
  /// cleared.
  virtual void step(double lr) = 0;

  /// The states that exist so far (none before a parameter's first step). They share memory with the optimiser: save
  /// them before the next step.
  virtual TensorMap state() const = 0;

  /// Replaces all states by copies of these. Error(data): a name that fits no parameter or kind, a shape or dtype that
  /// differs.
  virtual void load_state(const TensorMap& state) = 0;
};

/// Error(usage): a rate, decay or beta out of range. The parameters' tensors are kept by reference.
std::unique_ptr<Optimizer> make_optimizer(const std::vector<Parameter>& parameters, const OptimizerOptions& options);

}  // namespace atelier::train
