#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nn/adapter.h"
#include "nn/module.h"
#include "nn/packed_weight.h"

namespace atelier::nn {

/// Element-wise non-linearities by the names that configurations give them.
enum class Activation { silu, gelu, quick_gelu, relu, mish };

/// "silu" and "swish", "gelu" (the exact one), "quick_gelu", "relu", "mish"; Error(data) naming `what` and the known ones.
Activation parse_activation(const std::string& name, const std::string& what);

/// May overwrite x where gradients are off.
at::Tensor activate(Activation activation, at::Tensor x);

/// a + b; may overwrite a where gradients are off.
at::Tensor add_into(at::Tensor a, const at::Tensor& b);

/// A container that only gives its children a name ("down_blocks", "resnets").
class Group : public Module {
 public:
  using Module::register_module;

  template <class M>
  std::shared_ptr<M> append(std::shared_ptr<M> child) {
    return register_module(std::to_string(children().size()), std::move(child));
  }
};

/// Two-dimensional convolution with zero padding. Follows the memory layout of its input: a channels-last input gets a
/// channels-last result, and the weight is brought into that layout once. Holds any number of adapters, as Linear does.
class Conv2d : public Module {
 public:
  struct Options {
    std::int64_t kernel = 3, stride = 1, padding = 1;
    bool bias = true;
  };

  Conv2d(std::int64_t in, std::int64_t out, const Options& options);

  at::Tensor forward(const at::Tensor& x) const;  // (B, in, H, W) -> (B, out, H', W')
  /// forward(x) + summand; may overwrite neither, but is rounded once where the weight is packed.
  at::Tensor forward_plus(const at::Tensor& x, const at::Tensor& summand) const;

  at::Tensor weight;  ///< (out, in, kernel, kernel)
  at::Tensor bias;    ///< (out), or undefined
  mutable PackedWeight packed;
  std::vector<std::shared_ptr<Adapter>> adapters;

 private:
  at::Tensor adapted(const Adapter& adapter, const at::Tensor& x, const at::Tensor& y) const;

  std::int64_t stride_, padding_;
};

/// Brings the weights of frozen convolutions in and below a module into the channels-last layout, in which training's inputs come.
void prefer_channels_last(Module& module);

/// Group normalisation over (channels / groups, H, W) with an affine map (arXiv:1803.08494).
class GroupNorm : public Module {
 public:
  GroupNorm(std::int64_t groups, std::int64_t channels, double eps);

  at::Tensor forward(const at::Tensor& x) const;  // (B, channels, ...), same shape

  /// The activated norm of x + added, `added` (B, channels) or undefined. `x_is_free`: its memory may be written. Not for training.
  at::Tensor activated(Activation activation, const at::Tensor& x, const at::Tensor& added = {}, bool x_is_free = false) const;

  at::Tensor weight, bias;  ///< (channels)

 private:
  std::int64_t groups_;
  double eps_;
};

/// Layer normalisation over the last dimension with an affine map.
class LayerNorm : public Module {
 public:
  explicit LayerNorm(std::int64_t size, double eps = 1e-5);

  at::Tensor forward(const at::Tensor& x) const;  // (..., size), same shape

  at::Tensor weight, bias;  ///< (size)

 private:
  double eps_;
};

/// softmax(q k^T / sqrt(d)) v for `heads` heads. q: (B, L, heads d); k, v: (B, S, heads d); result (B, L, heads d). No
/// scores are held: kernels of our own serve (kernels/flash_attention.h) where there are some, else LibTorch's fused ones.
at::Tensor multi_head_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                                bool causal = false);

/// Calls f(begin, count) for runs of at most `together` of `batch` rows and joins the results along the first dimension.
/// On the CPU LibTorch's kernels round a row differently with the number of rows beside it: models that promise the same
/// bits for a picture alone and in a batch go through the batch this way. `together` 0: all at once.
template <class F>
at::Tensor by_rows(std::int64_t batch, std::int64_t together, const F& f);

at::Tensor join_rows(const std::vector<at::Tensor>& parts);

template <class F>
at::Tensor by_rows(std::int64_t batch, std::int64_t together, const F& f) {
  if (together <= 0 || batch <= together) return f(std::int64_t{0}, batch);
  std::vector<at::Tensor> parts;
  for (std::int64_t i = 0; i < batch; i += together) parts.push_back(f(i, std::min(together, batch - i)));
  return join_rows(parts);
}

}  // namespace atelier::nn
