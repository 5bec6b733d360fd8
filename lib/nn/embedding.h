#pragma once

#include <memory>
#include <vector>

#include "nn/adapter.h"
#include "nn/module.h"
#include "nn/quantised_weight.h"

namespace atelier::nn {

/// A table of vectors, one per token, times a constant factor; with any number of adapters.
class Embedding : public Module {
 public:
  /// The factor is rounded to the weights' type before it is used (as in transformers' scaled word embeddings).
  Embedding(std::int64_t count, std::int64_t size, double factor = 1);

  at::Tensor forward(const at::Tensor& ids) const;  // (...) integers -> (..., size) in the weight's dtype

  /// Puts a quantised table in the place of the dense one, whose memory is let go; results are in `dtype` from then on.
  void quantise(std::shared_ptr<const QuantisedWeight> quantised, at::ScalarType dtype);
  const std::shared_ptr<const QuantisedWeight>& quantised() const { return quantised_; }
  /// The table without adapters: `weight` itself, or the quantised one in `dtype`.
  at::Tensor dense_weight(at::ScalarType dtype) const;

  at::Tensor weight;  ///< (count, size); of a quantised one only shape and dtype
  std::vector<std::shared_ptr<Adapter>> adapters;

 private:
  at::Tensor adapted(const Adapter& adapter, const at::Tensor& ids, at::Tensor y) const;

  at::Tensor look_up(const at::Tensor& ids) const;

  double factor_;
  std::shared_ptr<const QuantisedWeight> quantised_;
};

}  // namespace atelier::nn
