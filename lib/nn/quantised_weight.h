#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// A weight matrix (out, in) that is stored in fewer bits and does not change. Linear computes with it as with the dense
/// weight that dequantise() gives.
class QuantisedWeight {
 public:
  virtual ~QuantisedWeight() = default;

  virtual std::int64_t out() const = 0;
  virtual std::int64_t in() const = 0;
  virtual at::Device device() const = 0;

  /// Rows [begin, end) as a dense (end - begin, in) tensor of the given type.
  virtual at::Tensor dequantise(at::ScalarType dtype, std::int64_t begin, std::int64_t end) const = 0;
  at::Tensor dequantise(at::ScalarType dtype) const { return dequantise(dtype, 0, out()); }

  /// Memory that it holds.
  virtual std::int64_t bytes() const = 0;
};

}  // namespace atelier::nn
