#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "nn/kernels/quantised.h"
#include "nn/product_weight.h"

namespace atelier::nn {

/// How weights are to be held: in so many bits, with a scale for each group of so many columns.
struct GroupQuantisation {
  int bits = 0;  ///< 8 or 4; 0: not at all
  std::int64_t group = 32;

  explicit operator bool() const { return bits != 0; }
};

/// A weight in 8 or 4 bits, packed as kernels/quantised.h says, and multiplied by those kernels with activations in 8 bits: a
/// row's result is the same whatever the number of rows and threads, and on every processor. On the CPU.
class GroupQuantisedWeight : public ProductWeight {
 public:
  /// The three tensors that make one up, as they lie in a file. What is mapped stays mapped.
  struct Parts {
    at::Tensor codes;   ///< (blocks of 16 rows, groups, 16 * group * bits / 8) U8
    at::Tensor scales;  ///< (blocks, groups, 16, or of 4 bits 32) U8
    at::Tensor units;   ///< (blocks, 16, or of 4 bits 32) f32
  };
  static constexpr const char* codes_suffix = ".codes";
  static constexpr const char* scales_suffix = ".scales";
  static constexpr const char* units_suffix = ".units";

  /// Error(data), naming `what`, where the parts do not make up a matrix (out, in): wrong types, shapes, or units that are not
  /// finite. Bits and group follow from the shapes.
  GroupQuantisedWeight(Parts parts, std::int64_t out, std::int64_t in, const std::string& what);

  /// Quantises `weight` (out, in), f32 or bf16, each number to the nearest code: for 4 bits with the scales and lowest values of
  /// the least squared error, where `importance` (in) f32, if defined, says how much a column's errors count. Goes by so many
  /// rows that `after_part`, called after each part, can let go of what was read. Uses LibTorch's threads; the result does not
  /// depend on their number. Error(data), naming `what`, for numbers that are not finite.
  static std::shared_ptr<const GroupQuantisedWeight> quantise(const at::Tensor& weight, const GroupQuantisation& quantisation,
                                                      const std::string& what, const at::Tensor& importance = {},
                                                      const std::function<void()>& after_part = {});

  std::int64_t out() const override { return shape_.out; }
  std::int64_t in() const override { return shape_.in; }
  at::Device device() const override { return at::kCPU; }
  std::int64_t bytes() const override { return quantised_bytes(shape_.out, shape_.in, {shape_.bits, shape_.group}); }
  using QuantisedWeight::dequantise;
  at::Tensor dequantise(at::ScalarType dtype, std::int64_t begin, std::int64_t end) const override;
  at::Tensor product(const at::Tensor& x, const at::Tensor& bias, bool f32_result) const override;

  const kernels::PackedShape& shape() const { return shape_; }
  const Parts& parts() const { return parts_; }

  /// What quantise() makes of an (out, in) weight, in bytes.
  static std::int64_t quantised_bytes(std::int64_t out, std::int64_t in, const GroupQuantisation& quantisation);
  /// Parts of a matrix, not filled.
  static Parts empty_parts(const kernels::PackedShape& shape);

 private:
  GroupQuantisedWeight(Parts parts, const kernels::PackedShape& shape) : parts_(std::move(parts)), shape_(shape) {}
  kernels::PackedMatrix matrix() const;

  Parts parts_;
  kernels::PackedShape shape_{};
};

}  // namespace atelier::nn
