#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace atelier::nn {

/// dy W (..., in) in dy's type, given dy (..., out), for a weight W (out, in) that it owns a share of.
using InputGradient = std::function<at::Tensor(const at::Tensor& dy)>;

/// What products with frozen weights, and attention, came to in one run of a block, for the next run of the same block: where backward
/// computes a block again (checkpoint), they are most of the work and need not be done twice. The gradients stay those of the products.
class KeptProducts {
 public:
  enum class Mode { record, replay };

  /// Of weights with fewer columns products are not kept.
  explicit KeptProducts(std::int64_t least_columns = 0) : least_columns_(least_columns) {}
  bool keeps(std::int64_t columns) const { return columns >= least_columns_; }

  /// While it lives, the products of this thread are kept in `products`, or taken from it in the order in which they were kept.
  class Scope {
   public:
    Scope(KeptProducts& products, Mode mode);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    KeptProducts* before_;
  };

  /// The one whose scope this thread is in, or null.
  static KeptProducts* current();

  /// x W^T for a W that is not trained. `compute` gives it with its graph, `gradient` the gradient of x. Each result can be taken once: its
  /// memory goes with the graph that it became part of.
  at::Tensor product(const at::Tensor& x, const std::function<at::Tensor()>& compute, const InputGradient& gradient);

  /// multi_head_attention (conv.h) on the CPU, of which the result and the sums of each query are kept.
  at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads, bool causal);

 private:
  at::Tensor take();

  std::int64_t least_columns_;
  Mode mode_ = Mode::record;
  std::size_t next_ = 0;
  std::vector<at::Tensor> results_;
};

/// y, computed outside of any graph, as the product of x with a weight that is not trained: backward gives x its gradient.
at::Tensor known_product(const at::Tensor& x, const at::Tensor& y, const InputGradient& gradient);

}  // namespace atelier::nn
