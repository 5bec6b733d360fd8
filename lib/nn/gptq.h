#pragma once

#include <memory>
#include <string>
#include <utility>

#include <ATen/core/Tensor.h>

#include "nn/group_quantised_weight.h"

namespace atelier::nn {

/// What a weight is multiplied with, as far as its rounding is concerned: the sum of x^T x over calibration inputs.
class InputMoments {
 public:
  /// x: (..., in).
  void add(const at::Tensor& x);
  /// (in, in) f32, the mean over rows.
  at::Tensor mean() const;
  std::int64_t rows() const { return rows_; }

 private:
  at::Tensor sum_;
  std::int64_t rows_ = 0;
};

/// A dense weight that keeps count of what it is multiplied with.
class ObservedWeight : public ProductWeight {
 public:
  /// `moments` may be null: then it only computes.
  ObservedWeight(at::Tensor weight, InputMoments* moments) : weight_(std::move(weight)), moments_(moments) {}

  std::int64_t out() const override { return weight_.size(0); }
  std::int64_t in() const override { return weight_.size(1); }
  at::Device device() const override { return weight_.device(); }
  std::int64_t bytes() const override { return static_cast<std::int64_t>(weight_.nbytes()); }
  using QuantisedWeight::dequantise;
  at::Tensor dequantise(at::ScalarType dtype, std::int64_t begin, std::int64_t end) const override;
  at::Tensor product(const at::Tensor& x, const at::Tensor& bias, bool f32_result) const override;

 private:
  at::Tensor weight_;
  InputMoments* moments_;
};

/// Quantises a weight (out, in) column by column: what one column's rounding does to the product is made up for, as far as
/// the inputs' moments allow, by the columns that are still to come (Frantar et al. 2022, GPTQ, arXiv:2210.17323, with its Cholesky
/// form and damping). Scales of a group are found by the search of GroupQuantisedWeight::quantise when its first column's turn comes, an
/// error counting by what it would cost. `moments`: (in, in) f32, symmetric. Error(data), naming `what`, for numbers that are
/// not finite.
std::shared_ptr<const GroupQuantisedWeight> quantise_gptq(const at::Tensor& weight, const GroupQuantisation& quantisation,
                                                  const at::Tensor& moments, const std::string& what,
                                                  double damping = 0.01);

}  // namespace atelier::nn
