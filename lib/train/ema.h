#pragma once

#include <cstdint>
#include <vector>

#include "train/parameters.h"

namespace atelier::train {

/// Exponential moving average of the trained weights, in f32.
class Ema {
 public:
  /// `decay` in [0, 1). The average starts as a copy of the parameters.
  Ema(const std::vector<Parameter>& parameters, double decay);

  /// average = d x average + (1 - d) x parameter with d = min(decay, (1 + step) / (10 + step)), `step` from 1: the
  /// warm-up of diffusers' EMAModel and TensorFlow's ExponentialMovingAverage, so that the first weights are soon
  /// forgotten.
  void update(std::int64_t step);

  /// Shares memory with the average.
  const TensorMap& state() const { return average_; }
  /// Error(data): other names or shapes.
  void load_state(const TensorMap& state);

  /// Exchanges parameters and average, to evaluate or to write the averaged weights; call it again to undo it. The
  /// average is kept exact meanwhile. Prefer EmaScope.
  void swap();

 private:
  std::vector<Parameter> parameters_;
  double decay_;
  TensorMap average_, held_;
};

/// The averaged weights stand in the parameters while this lives.
class EmaScope {
 public:
  explicit EmaScope(Ema* ema) : ema_(ema) {
    if (ema_ != nullptr) ema_->swap();
  }
  ~EmaScope() {
    if (ema_ != nullptr) ema_->swap();
  }
  EmaScope(const EmaScope&) = delete;
  EmaScope& operator=(const EmaScope&) = delete;

 private:
  Ema* ema_;
};

}  // namespace atelier::train
