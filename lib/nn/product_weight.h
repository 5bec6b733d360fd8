#pragma once

#include "nn/quantised_weight.h"

namespace atelier::nn {

/// A weight that computes its product itself, in place of being made dense. linear() asks it where no gradient is wanted.
class ProductWeight : public QuantisedWeight {
 public:
  /// x W^T (+ bias): x (..., in), the result (..., out) in x's type, or f32. A row's result is the same whatever the number of
  /// rows. Undefined where it cannot for such an x; then the dense weight is multiplied.
  virtual at::Tensor product(const at::Tensor& x, const at::Tensor& bias, bool f32_result) const = 0;
};

}  // namespace atelier::nn
