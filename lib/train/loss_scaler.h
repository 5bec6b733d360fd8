#pragma once

#include <cstdint>

#include "base/json.h"

namespace atelier::train {

/// Dynamic loss scale for f16 gradients: torch.amp.GradScaler's rule and defaults. The loss is multiplied by scale()
/// before backward and the gradients divided by it; update() tells whether the gradients were finite.
class LossScaler {
 public:
  explicit LossScaler(double initial = 65536, std::int64_t growth_interval = 2000);

  double scale() const { return scale_; }
  /// Halves the scale after a step with gradients that are not finite (which must be skipped); doubles it after
  /// `growth_interval` finite ones in a row.
  void update(bool finite);
  /// Whether the scale has fallen below 2^-14, where no f16 gradient can overflow because of it: the NaN is the model's
  /// own.
  bool exhausted() const;

  base::Json state() const;
  void load_state(const base::Json& state);  ///< Error(data)

 private:
  double scale_;
  std::int64_t growth_interval_, finite_in_a_row_ = 0;
};

}  // namespace atelier::train
