#pragma once

#include <memory>
#include <vector>

#include "nn/adapter.h"
#include "nn/module.h"

namespace atelier::nn {

/// A table of vectors, one per token, times a constant factor; with any number of adapters.
class Embedding : public Module {
 public:
  /// The factor is rounded to the weights' type before it is used (as in transformers' scaled word embeddings).
  Embedding(std::int64_t count, std::int64_t size, double factor = 1);

  at::Tensor forward(const at::Tensor& ids) const;  // (...) integers -> (..., size) in the weight's dtype

  at::Tensor weight;  ///< (count, size)
  std::vector<std::shared_ptr<Adapter>> adapters;

 private:
  at::Tensor adapted(const Adapter& adapter, const at::Tensor& ids, at::Tensor y) const;

  double factor_;
};

}  // namespace atelier::nn
